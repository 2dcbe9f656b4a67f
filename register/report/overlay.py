"""The picture to look at first: before and after, in false colour and as a checkerboard."""

from pathlib import PurePath

import imagecodecs
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from register.report.panels import View, checkerboard, false_colour
from register.transforms.transform import Transform

GAP, LABEL = 8, 26
INK, PAPER = (230, 230, 230), (24, 24, 27)


def overlay(view: View, transform: Transform) -> bytes:
    """A labelled picture, as PNG, of the fixed image against the moving one on its grid, before and after alignment.

    Above in false colour, fixed green and moving magenta, so that what agrees is grey; below a checkerboard of both.
    """
    height, width = view.fixed.shape
    side = max(min(height, width) // 8, 1)
    sheet = Image.new("RGB", (2 * width + 3 * GAP, 2 * (height + LABEL) + LABEL + 2 * GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=15)
    draw.text((GAP, 6), _title(transform), INK, font=font)
    for column, (name, shown) in enumerate((("before", view.before), ("after", view.after))):
        x = GAP + column * (width + GAP)
        panels = (
            (f"{name}: fixed green, moving magenta", false_colour(view.fixed, shown)),
            (f"{name}: checkerboard", checkerboard(view.fixed, shown, side)),
        )
        for row, (label, panel) in enumerate(panels):
            y = LABEL + row * (height + LABEL + GAP)
            draw.text((x, y + 4), label, INK, font=font)
            sheet.paste(Image.fromarray(panel), (x, y + LABEL))
    return bytes(
        imagecodecs.png_encode(np.asarray(sheet), level=1, filter=imagecodecs.PNG.FILTER.PAETH)
    )  # twice as fast as trying every filter


def _title(transform: Transform) -> str:
    quality, (moving, fixed) = (
        transform.quality,
        (PurePath(frame.path or "an array").name for frame in (transform.moving, transform.fixed)),
    )
    return f"{moving} on {fixed}: {quality['verdict']}, similarity {quality['similarity_before']:.2f} to {quality['similarity_after']:.2f}"
