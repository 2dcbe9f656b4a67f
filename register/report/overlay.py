"""``overlay.png``: both images before and after alignment, in false colour and as a checkerboard."""

from pathlib import PurePath

import imagecodecs
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from register.report.panels import View, checkerboard
from register.report.pictures import Overlays
from register.transforms.transform import Transform

GAP, LABEL = 8, 26
"""Pixels between panels, and the height of a label."""
INK, PAPER = (230, 230, 230), (24, 24, 27)


def overlay(view: View, drawn: Overlays, transform: Transform) -> bytes:
    """A labelled picture, as PNG, of the fixed image and the moving image on its grid, before and after
    alignment.

    The upper row is in false colour, fixed green and moving magenta, grey where structures agree; the lower
    row is a checkerboard of both.
    """
    height, width = view.fixed.shape
    side = max(min(height, width) // 8, 1)
    sheet = Image.new("RGB", (2 * width + 3 * GAP, 2 * (height + LABEL) + LABEL + 2 * GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=15)
    draw.text((GAP, 6), _title(transform), INK, font=font)
    columns = ("before", drawn.before, view.before), ("after", drawn.after, view.after)
    for column, (name, colours, moving) in enumerate(columns):
        x = GAP + column * (width + GAP)
        panels = (
            (f"{name}: fixed green, moving magenta", colours),
            (f"{name}: checkerboard", checkerboard(view.fixed, moving, side)),
        )
        for row, (label, panel) in enumerate(panels):
            y = LABEL + row * (height + LABEL + GAP)
            draw.text((x, y + 4), label, INK, font=font)
            sheet.paste(Image.fromarray(panel), (x, y + LABEL))
    one_filter = imagecodecs.PNG.FILTER.PAETH  # twice as fast as trying every filter
    return bytes(imagecodecs.png_encode(np.asarray(sheet), level=1, filter=one_filter))


def after_panel(sheet: Image.Image) -> Image.Image:
    """The overlay after alignment, cut out of a sheet that ``overlay`` drew."""
    width = (sheet.width - 3 * GAP) // 2
    height = (sheet.height - LABEL - 2 * GAP) // 2 - LABEL
    left, top = 2 * GAP + width, 2 * LABEL
    return sheet.crop((left, top, left + width, top + height))


def _title(transform: Transform) -> str:
    fixed, moving = (PurePath(x.path or "an array").name for x in (transform.fixed, transform.moving))
    quality, title = transform.quality, f"{moving} on {fixed}: {transform.quality.verdict}"
    if quality.similarity_before is None or quality.similarity_after is None:
        return title
    return f"{title}, similarity {quality.similarity_before:.2f} to {quality.similarity_after:.2f}"
