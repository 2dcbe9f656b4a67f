"""The picture to look at first: before and after, in false colour and as a checkerboard."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from register import pyramid, structure

PANEL = 720
GAP, LABEL = 8, 26
INK, PAPER = (230, 230, 230), (24, 24, 27)

Grey = NDArray[np.float32]


def overlay(fixed: NDArray[Any], before: NDArray[Any], after: NDArray[Any], title: str) -> Image.Image:
    """A labelled picture of fixed (c, h, w) against the moving image on the fixed grid, (c', h, w), before and after alignment.

    Above in false colour, fixed green and moving magenta, so that what agrees is grey; below a checkerboard of both.
    """
    greys = [_panel(image) for image in (fixed, before, after)]
    height, width = greys[0].shape
    side = max(min(height, width) // 8, 1)
    sheet = Image.new("RGB", (2 * width + 3 * GAP, 2 * (height + LABEL) + LABEL + 2 * GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=15)
    draw.text((GAP, 6), title, INK, font=font)
    for column, (name, moving) in enumerate((("before", greys[1]), ("after", greys[2]))):
        x = GAP + column * (width + GAP)
        panels = ((f"{name}: fixed green, moving magenta", false_colour(greys[0], moving)), (f"{name}: checkerboard", checkerboard(greys[0], moving, side)))
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


def _panel(image: NDArray[Any]) -> Grey:
    """A grey (h, w) in [0, 1] of at most ``PANEL`` pixels; what is not shown is black."""
    plane = structure.grey(torch.from_numpy(image.astype(np.float32)))
    mask = torch.isfinite(plane).float()
    level = pyramid.shrink(pyramid.base(torch.where(mask > 0, plane, 0.0), mask), max(image.shape[1:]) / PANEL)
    grey: Grey = structure.normalise(level.image, level.mask)[0].numpy()
    return grey


def _bytes(picture: NDArray[Any]) -> NDArray[np.uint8]:
    return np.rint(picture * 255).astype(np.uint8)
