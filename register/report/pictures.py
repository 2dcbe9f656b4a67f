"""Pictures of both images in their own colours, overlays that are grey where structures agree, outlines."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from register.geometry import affine
from register.images import filters
from register.io.images.colours import ColourPicture
from register.report.panels import Grey, Picture, Scene, View
from register.transforms.transform import Transform

Colours = NDArray[np.float32]
WIDE, FLAT = 0.03, 0.04
"""Standard deviation of the neighbourhood over which contrast is made equal, as a share of the longer side,
and the contrast below which an image counts as flat."""
CONTRAST = 0.22
"""Grey levels per standard deviation of an overlay."""
OUTLINES = 0.92
"""Quantile of the gradient from which a pixel belongs to an outline."""
OUTLINE = np.array([255, 0, 200], np.float32)
"""The colour of an outline."""
STRIPES, DARK, LIGHT = 10, 96, 150
"""Width in pixels and greys of the hatching where there is no image."""


def in_colour(scene: Scene, view: View) -> list[Picture]:
    """The fixed image, the moving one before and after alignment, as RGB bytes (h, w, 3) on the view's grid.

    An image without colours is drawn in grey; where it does not reach, it is hatched.
    """
    fixed, moving = scene.colours
    greys = (view.fixed, view.before, view.after)
    each = ((fixed, None), (moving, scene.unaligned), (moving, scene.transform))
    level = scene.fixed.original_from_level.numpy()
    drawn = []
    for grey, (colours, transform) in zip(greys, each, strict=True):
        inside = ~np.isnan(grey)
        if colours is None:
            rgb = np.repeat(np.nan_to_num(grey)[..., None], 3, 2)
        else:
            rgb = _sampled(colours, transform, level, (grey.shape[0], grey.shape[1]))
        drawn.append(hatched(np.rint(rgb * 255).astype(np.uint8), inside))
    return drawn


def _sampled(
    image: ColourPicture, transform: Transform | None, level: NDArray[np.float64], size: tuple[int, int]
) -> Colours:
    """An image at the pixels of a level of the fixed image, under a transform of the originals, if any."""
    y, x = (np.arange(n, dtype=np.float64) for n in size)
    x, y = level[0, 0] * x + level[0, 2], level[1, 1] * y + level[1, 2]
    points = affine.points_at(x, y) if transform is None else transform.map_grid(x, y)
    rows, columns = (
        np.rint((points[..., axis] + 0.5) / image.factors[axis] - 0.5).astype(int) for axis in (1, 0)
    )
    height, width = image.rgb.shape[:2]
    found: Colours = image.rgb[rows.clip(0, height - 1), columns.clip(0, width - 1)]
    return found


def hatched(picture: Picture, inside: NDArray[np.bool_]) -> Picture:
    """A picture (h, w, 3) with diagonal stripes where it is not ``inside`` (h, w) an image."""
    if inside.all():
        return picture
    y, x = np.nonzero(~inside)
    result = picture.copy()
    result[y, x] = np.where((x + y) // STRIPES % 2 == 0, DARK, LIGHT)[:, None]
    return result


@dataclass(frozen=True)
class Equalised:
    """A grey (h, w) with the same contrast in every neighbourhood, 0.5 in flat ones, and its valid pixels."""

    grey: Grey
    valid: NDArray[np.bool_]

    @classmethod
    def of(cls, grey: Grey) -> "Equalised":
        """A grey (h, w), NaN where it is not known."""
        valid = ~np.isnan(grey)
        values, sigma = np.where(valid, grey, 0), max(WIDE * max(grey.shape), 2.0)
        share = _blurred(valid.astype(np.float32), sigma).clip(1e-3)
        centred = np.where(valid, values - _blurred(values, sigma) / share, 0)
        deviation = np.sqrt(_blurred(centred**2, sigma) / share)
        return cls((0.5 + CONTRAST * centred / (deviation + FLAT)).clip(0, 1).astype(np.float32), valid)

    def is_opposite(self, other: "Equalised") -> bool:
        """Whether bright structures of one image are dark in the other."""
        valid = self.valid & other.valid
        if valid.sum() < 16:
            return False
        return float(((self.grey[valid] - 0.5) * (other.grey[valid] - 0.5)).mean()) < 0


@dataclass(frozen=True)
class Overlays:
    """A region in false colour, as RGB bytes (h, w, 3): fixed green, moving magenta, grey where structures
    agree. The moving image is drawn before and after alignment."""

    before: Picture
    after: Picture

    @classmethod
    def of(cls, view: View) -> "Overlays":
        """The overlays of a region."""
        fixed, before, after = (Equalised.of(grey) for grey in view)
        opposite = fixed.is_opposite(after)
        return cls(*(neutral_overlay(fixed, moving, opposite=opposite) for moving in (before, after)))


def neutral_overlay(fixed: Equalised, moving: Equalised, *, opposite: bool) -> Picture:
    """Two greys as RGB bytes (h, w, 3), fixed green, moving magenta: grey where structures agree.

    ``opposite`` is whether bright structures of one image are dark in the other; the moving image is then
    inverted.
    """
    other = 1 - moving.grey if opposite else moving.grey
    green, magenta = (np.rint(x * 255).astype(np.uint8) for x in (fixed.grey, other))
    return hatched(np.stack([magenta, green, magenta], axis=2), moving.valid)


def outlines(picture: Picture, grey: Grey) -> Picture:
    """A picture (h, w, 3), paler, with the strongest edges of a grey (h, w) in magenta."""
    image = _smoothed(grey, 1.2)
    along_y, along_x = np.gradient(image)
    size = np.where(np.isnan(grey), 0, np.hypot(along_x, along_y))
    limit = max(float(np.quantile(size[::2, ::2], OUTLINES)), 1e-6)
    strength = ((size / limit - 0.8) / 0.4).clip(0, 1)[..., None]
    pale = 255 - (255 - picture.astype(np.float32)) * 0.75
    return np.rint(pale * (1 - strength) + OUTLINE * strength).astype(np.uint8)


def local_contrast(grey: Grey) -> Grey:
    """The standard deviation (h, w) of a grey in every neighbourhood; 0 where it is not known."""
    valid = ~np.isnan(grey)
    values, sigma = np.where(valid, grey, 0), max(WIDE * max(grey.shape), 2.0)
    share = _blurred(valid.astype(np.float32), sigma).clip(1e-3)
    squares = _blurred(values**2, sigma) / share - (_blurred(values, sigma) / share) ** 2
    contrast: Grey = np.where(valid, np.sqrt(squares.clip(0)), 0)
    return contrast


def _smoothed(grey: Grey, sigma: float) -> Grey:
    """A grey (h, w) blurred; the values of invalid pixels are the mean."""
    known = grey[~np.isnan(grey)]
    return _blurred(np.where(np.isnan(grey), known.mean() if len(known) else 0, grey), sigma)


def _blurred(values: Grey, sigma: float) -> Grey:
    """Values (h, w) filtered by a Gaussian of ``sigma`` pixels."""
    image = torch.from_numpy(np.ascontiguousarray(values, np.float32))[None, None]
    blurred: Grey = (filters.smooth(image, sigma) if sigma < 4 else filters.smooth_widely(image, sigma))[
        0, 0
    ].numpy()
    return blurred
