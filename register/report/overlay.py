"""The picture to look at first: before and after, in false colour and as a checkerboard."""

from PIL import Image, ImageDraw, ImageFont

from register.report.panels import Scene, checkerboard, false_colour

PANEL = 720
GAP, LABEL = 8, 26
INK, PAPER = (230, 230, 230), (24, 24, 27)


def overlay(scene: Scene, title: str) -> Image.Image:
    """A labelled picture of the fixed image against the moving one on its grid, before and after alignment.

    Above in false colour, fixed green and moving magenta, so that what agrees is grey; below a checkerboard of both.
    """
    view = scene.coarser(PANEL).view()
    height, width = view.fixed.shape
    side = max(min(height, width) // 8, 1)
    sheet = Image.new("RGB", (2 * width + 3 * GAP, 2 * (height + LABEL) + LABEL + 2 * GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=15)
    draw.text((GAP, 6), title, INK, font=font)
    for column, (name, shown) in enumerate((("before", view.before), ("after", view.after))):
        x = GAP + column * (width + GAP)
        panels = ((f"{name}: fixed green, moving magenta", false_colour(view.fixed, shown)), (f"{name}: checkerboard", checkerboard(view.fixed, shown, side)))
        for row, (label, panel) in enumerate(panels):
            y = LABEL + row * (height + LABEL + GAP)
            draw.text((x, y + 4), label, INK, font=font)
            sheet.paste(Image.fromarray(panel), (x, y + LABEL))
    return sheet
