"""The range of rotations, scales and reflections of the search for an initial map."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from register.geometry import affine, models
from register.images.pyramid import Level
from register.settings import Settings

ANGLE_STEP, SCALE_STEP = 7.5, 1.2
"""Degrees, and factor, between the rotations and scales that are searched."""
ORDINARY_ROTATION, ORDINARY_SCALE = 30.0, 1.25
"""Rotation in degrees, and scale factor, within which most image pairs lie."""
FINER = 0.67
"""Steps of the ordinary range in units of those of the full range."""
SCALE_RANGE, KNOWN_SCALE_RANGE = 2.5, 1.25
"""Scale factors searched when the scale is not known, and around the scale that pixel sizes give."""


@dataclass(frozen=True)
class SearchRange:
    """The range of global maps that are searched.

    They are maps of a ``model`` with rotations of up to ``rotation`` degrees in both directions and scales
    within a factor ``scale`` of ``middle``, and reflections too with ``flip``. ``count`` starts of each sweep
    are refined.
    """

    model: str
    rotation: float
    count: int
    scale: float = SCALE_RANGE
    middle: float = 1.0
    flip: bool = False

    def contains(self, matrix: Tensor) -> bool:
        """Whether a map (2, 3) lies within the range, with one step of tolerance.

        The rotation of a reflection is that of the map after the moving image was mirrored.
        """
        if float(affine.determinant(matrix)) < 0:
            matrix = torch.cat([-matrix[:, :1], matrix[:, 1:]], dim=1)
        parts = affine.decompose(matrix)
        rotated = abs(parts.rotation) <= self.rotation + ANGLE_STEP
        return rotated and abs(math.log(parts.scale / self.middle)) <= math.log(self.scale * SCALE_STEP)

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


def ranges_of(settings: Settings, count: int, pixel_ratio: float | None) -> list[SearchRange]:
    """The ranges to search one after the other: around the scale that pixel sizes give, then the full range.

    ``pixel_ratio`` is the fixed pixel size over the moving one, None where either is not known.
    """
    full = SearchRange(
        settings.model,
        settings.rotation_range,
        count,
        settings.scale_range or SCALE_RANGE,
        flip=settings.allow_flip,
    )
    if not pixel_ratio:
        return [full]
    return [replace(full, scale=settings.scale_range or KNOWN_SCALE_RANGE, middle=pixel_ratio), full]


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
    """The level with its columns reversed, and with the matching matrix to original pixels."""
    reverse = torch.tensor([[-1.0, 0.0, level.size[1] - 1.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    from_level = affine.compose(level.original_from_level, reverse)
    return Level(level.image.flip(-1), level.mask.flip(-1), from_level)
