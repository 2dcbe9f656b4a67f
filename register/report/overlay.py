"""The picture to look at first: before and after, in false colour and as a checkerboard."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from register import affine, pyramid, sampling, structure
from register.pyramid import Level
from register.transform import Transform

PANEL = 720
GAP, LABEL = 8, 26
INK, PAPER = (230, 230, 230), (24, 24, 27)

Grey = NDArray[np.float32]


def overlay(fixed: Level, moving: Level, transform: Transform, title: str) -> Image.Image:
    """A labelled picture of a fixed grey level against the moving one on its grid, before and after alignment.

    Above in false colour, fixed green and moving magenta, so that what agrees is grey; below a checkerboard of both.
    """
    below, above = _panel(fixed), _panel(moving)
    still = replace(transform, model="translation", matrix=affine.identity(), grid=None, matrices=None, chain=())
    greys: list[Grey] = [below.image[0].numpy(), *(_on_grid(below, above, way) for way in (still, transform))]
    height, width = greys[0].shape
    side = max(min(height, width) // 8, 1)
    sheet = Image.new("RGB", (2 * width + 3 * GAP, 2 * (height + LABEL) + LABEL + 2 * GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=15)
    draw.text((GAP, 6), title, INK, font=font)
    for column, (name, shown) in enumerate((("before", greys[1]), ("after", greys[2]))):
        x = GAP + column * (width + GAP)
        panels = ((f"{name}: fixed green, moving magenta", false_colour(greys[0], shown)), (f"{name}: checkerboard", checkerboard(greys[0], shown, side)))
        for row, (label, panel) in enumerate(panels):
            y = LABEL + row * (height + LABEL + GAP)
            draw.text((x, y + 4), label, INK, font=font)
            sheet.paste(Image.fromarray(panel), (x, y + LABEL))
    return sheet


def false_colour(fixed: Grey, moving: Grey) -> NDArray[np.uint8]:
    """An RGB picture (h, w, 3) of two greys (h, w) in [0, 1]: fixed in green, moving in magenta, which colour-blind eyes tell apart."""
    return _bytes(np.stack([moving, fixed, moving], axis=2))


def checkerboard(fixed: Grey, moving: Grey, side: int) -> NDArray[np.uint8]:
    """An RGB picture (h, w, 3) of squares of ``side`` pixels, fixed and moving in turn."""
    y, x = np.indices(fixed.shape) // side
    return _bytes(np.repeat(np.where((x + y) % 2 == 0, fixed, moving)[..., None], 3, axis=2))


def _panel(level: Level) -> Level:
    """A grey level in [0, 1] of at most ``PANEL`` pixels; what is not shown is black."""
    level = Level(level.image.cpu(), level.mask.cpu(), level.original_from_level)
    level = pyramid.shrink(level, max(level.size) / PANEL)
    return Level(structure.normalise(level.image, level.mask), level.mask, level.original_from_level)


def _on_grid(fixed: Level, moving: Level, transform: Transform) -> Grey:
    """The moving grey (h, w) where a transform of the originals brings it on the fixed level's pixels; black where it shows nothing."""
    x, y = sampling.axes(*fixed.size, dtype=torch.float64)
    up, down = fixed.original_from_level, affine.invert(moving.original_from_level)
    points = affine.apply(down, transform.map_grid(up[0, 0] * x + up[0, 2], up[1, 1] * y + up[1, 2]).flatten(0, 1)).reshape(*fixed.size, 2)
    values = sampling.sample(moving.image[None], points[None].float())[0, 0]
    grey: Grey = torch.where(sampling.inside(points, *moving.size), values, 0.0).numpy()
    return grey


def _bytes(picture: Grey) -> NDArray[np.uint8]:
    return np.rint(picture * 255).astype(np.uint8)
