"""The range of rotations, scales and reflections of the search for an initial map."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from register.compute.budget import FOREVER, Budget
from register.geometry import affine, models
from register.images import pyramid
from register.images.pyramid import Level
from register.settings import Settings

ANGLE_STEP, SCALE_STEP = 7.5, 1.2
"""Degrees, and factor, between the rotations and scales that are searched."""
ORDINARY_ROTATION, ORDINARY_SCALE = 30.0, 1.25
"""Rotation in degrees, and scale factor, within which most image pairs lie."""
FINER = 0.67
"""Steps of the ordinary range in units of those of the full range."""
VIEW = 4.0
"""Ratio of the areas of the moving and the fixed image from which the fixed image is a small view."""
TOLERANCE, TOLERATED = 0.05, 1.0
"""Share of the radius, and pixels, by which a refined map may leave the range of shifts."""
SCALE_RANGE, KNOWN_SCALE_RANGE = 2.5, 1.25
"""Scale factors searched when the scale is not known, and around the scale that pixel sizes give."""


@dataclass(frozen=True)
class ShiftRange:
    """A disc of ``radius`` moving pixels around the ``place`` (x, y) where the fixed image's ``centre``
    (x, y) is looked for."""

    centre: tuple[float, float]
    place: tuple[float, float]
    radius: float

    def contains(self, matrix: Tensor) -> bool:
        """Whether a map (2, 3) of the originals takes the centre into the disc, with some tolerance."""
        found = affine.apply(matrix, torch.tensor([self.centre], dtype=matrix.dtype))[0]
        return math.dist(found.tolist(), self.place) <= self.radius * (1 + TOLERANCE) + TOLERATED

    def inverted(self, scale: float) -> "ShiftRange":
        """The disc of the inverse maps, at a scale of moving pixels per fixed pixel."""
        return ShiftRange(self.place, self.centre, self.radius / scale)

    def shifts(self, to_moving: Tensor, from_fixed: Tensor) -> tuple[Tensor, float]:
        """The disc (2,) and its radius, in the shifts of a correlation.

        A shift takes pixels of the fixed level, ``from_fixed`` (2, 3) of the original, to those of a canvas,
        which the similarity ``to_moving`` (2, 3) takes to the original moving image.
        """
        points = torch.tensor([self.centre], dtype=torch.float64), torch.tensor([self.place]).double()
        fixed, canvas = affine.apply(from_fixed, points[0]), affine.apply(affine.invert(to_moving), points[1])
        return (canvas - fixed)[0], self.radius / affine.scale(to_moving)


@dataclass(frozen=True)
class SearchRange:
    """The range of global maps that are searched.

    They are maps of a ``model`` with rotations of up to ``rotation`` degrees in both directions and scales
    within a factor ``scale`` of ``middle``, and reflections too with ``flip``. ``count`` starts of each sweep
    are refined. With ``shift`` the fixed image's centre is found near the same place of the moving image.
    Nothing more is compared when the ``budget`` of the search is spent.
    """

    model: str
    rotation: float
    count: int
    scale: float = SCALE_RANGE
    middle: float = 1.0
    flip: bool = False
    shift: ShiftRange | None = None
    budget: Budget = FOREVER

    def contains(self, matrix: Tensor) -> bool:
        """Whether a map (2, 3) lies within the range, with one step of tolerance.

        The rotation of a reflection is that of the map after the moving image was mirrored.
        """
        if float(affine.determinant(matrix)) < 0:
            matrix = torch.cat([-matrix[:, :1], matrix[:, 1:]], dim=1)
        parts = affine.decompose(matrix)
        rotated = abs(parts.rotation) <= self.rotation + ANGLE_STEP
        scaled = abs(math.log(parts.scale / self.middle)) <= math.log(self.scale * SCALE_STEP)
        return rotated and scaled and self.is_near(matrix)

    def is_near(self, matrix: Tensor) -> bool:
        """Whether a map (2, 3) shifts the centre by no more than is allowed."""
        return self.shift is None or self.shift.contains(matrix)

    def inverted(self) -> "SearchRange":
        """The range of the inverse maps."""
        shift = self.shift and self.shift.inverted(self.middle)
        return replace(self, middle=1 / self.middle, shift=shift)

    def share(self, fixed: Level, moving: Level) -> float:
        """The area of the moving level in units of that of the fixed one, at the scale in the middle."""
        pixels = pyramid.pixel(moving) / self.middle / pyramid.pixel(fixed)
        return math.prod(moving.size) * pixels**2 / math.prod(fixed.size)

    def is_view(self, fixed: Level, moving: Level) -> bool:
        """Whether the fixed level is a small view of the moving one, at the scale in the middle."""
        return self.share(fixed, moving) > VIEW

    @property
    def only_shifts(self) -> bool:
        """Whether rotations and scales are ruled out."""
        model = models.AFFINE if self.model == "local" else models.get(self.model)
        return not (model.rotates and self.rotation) and not (model.scales and self.scale > 1)

    def sweeps(self) -> list[tuple[Tensor, Tensor]]:
        """Angles and scales of the full range, and of the ordinary range in finer steps."""
        model = models.AFFINE if self.model == "local" else models.get(self.model)
        rotation = self.rotation if model.rotates else 0.0
        scale = self.scale if model.scales else 1.0
        near = min(rotation, ORDINARY_ROTATION), min(scale, ORDINARY_SCALE)
        return [
            (angles(rotation), scales(scale, self.middle)),
            (angles(near[0], ANGLE_STEP * FINER), scales(near[1], self.middle, SCALE_STEP**FINER)),
        ]

    def orientations(self, moving: Level) -> list[Level]:
        """The moving image, and its mirror image where reflections are searched."""
        return [moving, mirror(moving)] if self.flip else [moving]


def ranges_of(
    settings: Settings,
    count: int,
    pixel_ratio: float | None,
    *,
    shift: float | None = None,
    size: tuple[int, int] = (0, 0),
) -> list[SearchRange]:
    """The ranges to search one after the other: around the scale that pixel sizes give, then the full range.

    ``pixel_ratio`` is the fixed pixel size over the moving one, None where either is not known. ``shift``
    bounds the displacement of the centre of a fixed image of ``size`` (height, width), in its pixels.
    """
    near = None if shift is None else _shift_range(shift, size, pixel_ratio or 1.0)
    full = SearchRange(
        settings.model,
        settings.rotation_range,
        count,
        settings.scale_range or SCALE_RANGE,
        flip=settings.allow_flip,
        shift=near,
    )
    if not pixel_ratio:
        return [full]
    return [replace(full, scale=settings.scale_range or KNOWN_SCALE_RANGE, middle=pixel_ratio), full]


def _shift_range(shift: float, size: tuple[int, int], ratio: float) -> ShiftRange:
    """The range of shifts of up to some fixed pixels, around the same place at the scale of the pixel
    sizes."""
    centre = (size[1] - 1) / 2, (size[0] - 1) / 2
    return ShiftRange(centre, (centre[0] * ratio, centre[1] * ratio), shift * ratio)


def angles(limit: float, step: float = ANGLE_STEP) -> Tensor:
    """Degrees from -limit to limit in steps of about ``step``; a full circle contains -180 but not 180."""
    if limit >= 180:
        return torch.arange(-180.0, 180.0, step)
    n = math.ceil(limit / step - 0.5)
    return torch.linspace(-limit, limit, 2 * n + 1) if n else torch.zeros(1)


def scales(limit: float, middle: float = 1.0, step: float = SCALE_STEP) -> Tensor:
    """Factors from middle / limit to middle * limit, evenly spaced in their logarithm."""
    n = math.ceil(math.log(limit) / math.log(step) - 0.5)
    if not n:
        return middle * torch.ones(1)
    return middle * torch.exp(torch.linspace(-math.log(limit), math.log(limit), 2 * n + 1))


def mirror(level: Level) -> Level:
    """The level with its columns reversed, and with the matching matrix to original pixels, made once, so
    that what is computed of it is kept."""
    return pyramid.cached(level, "mirror", lambda: _mirror(level))


def _mirror(level: Level) -> Level:
    reverse = torch.tensor([[-1.0, 0.0, level.size[1] - 1.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    from_level = affine.compose(level.original_from_level, reverse)
    return Level(level.image.flip(-1), level.mask.flip(-1), from_level)
