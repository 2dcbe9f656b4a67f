"""The kinds of charts in a report, as SVG data URLs that adapt to a light or a dark colour scheme.

A template draws them, because importing a plotting library would take longer than computing the report.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from register.report.axes import Axis, Values
from register.report.colours import shade, stops
from register.report.html import data_url, jpeg_url, png_url, template
from register.report.panels import Grey

WIDTH, LEFT, TOP, BOTTOM, BAR, MARGIN, LEGEND = 442, 66, 24, 44, 80, 12, 16
"""Layout in pixels: the width of a chart; the space left of, above and below its axes; the space right of
them with a colour bar and without one; the height of a row of the legend."""
LEAST, MOST = 140, 520
"""Smallest and largest height of the axes, in pixels; a background outside these limits is stretched."""
DASHES = ("", "6 3", "2 3", "9 3 2 3", "4 2", "1 2", "12 4")
"""Dash patterns of the lines of a chart: lines differ in more than their colour."""
COLOURS = ("currentColor", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#5a7fd6")
"""Colours of the lines of a chart. Source: after Okabe and Ito (2008)."""
MESH, SHADES, ARROWS = "#f0a000", 16, 24
"""The colour of a patch grid, the number of colours of arrows, and of arrows along the longer side."""


@dataclass(frozen=True)
class Line:
    """An SVG path in pixels of the axes, and its style; a line with a name is listed in the legend."""

    path: str
    colour: str
    width: float = 1.2
    dash: str = ""
    name: str = ""


@dataclass(frozen=True)
class Chart:
    """What a chart shows within its axes x and y, which are ``down`` pixels high.

    ``image`` is the data URL of the background, with sharp pixels if ``blocks``. ``bar`` is the axis of the
    colour bar and ``stops`` are its colours. ``framed`` draws all four sides of the axes, otherwise two.
    """

    x: Axis
    y: Axis
    down: int
    image: str | None = None
    blocks: bool = False
    lines: Sequence[Line] = ()
    bar: Axis | None = None
    stops: Sequence[str] = ()
    title: str = ""
    framed: bool = True

    def url(self) -> str:
        """The chart as the data URL of an SVG."""
        named = [line for line in self.lines if line.name]
        drawn = template("chart.svg").render(
            width=WIDTH,
            height=TOP + self.down + BOTTOM + LEGEND * math.ceil(len(named) / 2),
            left=LEFT,
            top=TOP,
            across=WIDTH - LEFT - (BAR if self.bar else MARGIN),
            named=named,
            chart=self,
        )
        return data_url("svg+xml", drawn.encode())


def patch_map(values: Values, size: tuple[int, int], bar: Axis, colours: str) -> str:
    """Values (rows, columns) of patches over a fixed image of ``size`` (height, width) in pixels; NaN is
    grey.

    ``bar`` is the axis of the colour bar and ``colours`` the name of the colour map.
    """
    picture = png_url(shade(bar.share(values), colours))
    x, y = _pixel_axes(size)
    down = _height(size, BAR)
    return Chart(x, y, down, image=picture, blocks=True, bar=bar, stops=stops(colours)).url()


def arrows(background: Grey, size: tuple[int, int], at: Values, move: Values) -> str:
    """Displacements ``move`` (n, 2) as arrows at fixed points ``at`` (n, 2) over the fixed image, in pixels.

    All arrows are drawn longer by one round factor, which the title states, where displacements are small.
    """
    length = np.hypot(*move.T)
    factor = _round_factor(max(size) / ARROWS / max(quantile(length, 0.9), 1e-9))
    bar = Axis(0.0, max(float(length.max()), 1e-3), "length, px")
    down = _height(size, BAR)
    tails, tips = (_in_axes(points, size, down, BAR) for points in (at, at + move * factor))
    shades = np.minimum((bar.share(length) * SHADES).astype(int), SHADES - 1)
    lines = []
    for tone in sorted(set(shades.tolist())):
        colour = "#" + shade(np.array((tone + 0.5) / SHADES), "plasma").tobytes().hex()
        lines.append(Line(_arrow_path(tails[shades == tone], tips[shades == tone]), colour, 1.4))
    x, y = _pixel_axes(size)
    picture, title = jpeg_url(background / 1.6), f"arrows {factor:g} × their length"
    return Chart(x, y, down, image=picture, lines=lines, bar=bar, stops=stops("plasma"), title=title).url()


def _arrow_path(tails: Values, tips: Values) -> str:
    """The path of arrows from ``tails`` to ``tips`` (n, 2), each with a head of two lines."""
    heads = tips - tails
    across = 0.18 * np.stack([-heads[:, 1], heads[:, 0]], 1)
    one, other = tips - 0.3 * heads + across, tips - 0.3 * heads - across
    corners = np.concatenate([tails, tips, one, tips, other], 1).tolist()
    return "".join(
        f"M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}M{e:.1f} {f:.1f}L{g:.1f} {h:.1f}L{i:.1f} {j:.1f}"
        for a, b, c, d, e, f, g, h, i, j in corners
    )


def mesh(background: Grey, size: tuple[int, int], mapped: Values) -> str:
    """The lines of the patch grid over the moving image.

    ``mapped`` (rows, columns, 2) are the centres of the patches in moving pixels, ``size`` is the (height,
    width) of the moving image.
    """
    down = _height(size, MARGIN)
    at = _in_axes(mapped, size, down, MARGIN)
    path = "".join(_path(line) for line in (*at, *at.swapaxes(0, 1)))
    x, y = _pixel_axes(size)
    return Chart(x, y, down, image=jpeg_url(background / 1.4), lines=[Line(path, MESH, 0.9)]).url()


def curves(history: Mapping[str, Sequence[float]]) -> str:
    """The loss of every level against the step."""
    lines = {name: np.array(losses, dtype=float) for name, losses in history.items()}
    return _plot(lines, "step", "loss, mean log of the unexplained variance", shape=(2, 3), first=1)


def quantile(values: Values, share: float) -> float:
    """The value below which a ``share`` of all values lies, interpolated linearly.

    ``numpy.quantile`` imports masked arrays, which takes longer than drawing a chart.
    """
    ordered = np.sort(values, axis=None)
    return float(np.interp(share * (len(ordered) - 1), np.arange(len(ordered)), ordered))


def over_frames(lines: Mapping[str, Values], label: str) -> str:
    """Values against the frame number, one line per name; lines break where a value is NaN."""
    return _plot(lines, "frame", label, shape=(1, 3))


def _plot(
    lines: Mapping[str, Values], across: str, label: str, *, shape: tuple[int, int], first: int = 0
) -> str:
    """Lines of values against their index, counted from ``first``; with a legend when there are several."""
    known = np.concatenate([values[np.isfinite(values)] for values in lines.values()])
    low, high = float(known.min()), float(known.max())
    room = 0.05 * (high - low) or 0.5
    longest = max(len(values) for values in lines.values())
    x, y = Axis(first, max(first + longest - 1, first + 1), across), Axis(high + room, low - room, label)
    down, wide = _height(shape, MARGIN), WIDTH - LEFT - MARGIN
    drawn = []
    for number, (name, values) in enumerate(lines.items()):
        index = np.arange(first, first + len(values), dtype=float)
        path = _path(np.stack([x.share(index) * wide, y.share(values) * down], 1))
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
        drawn.append(Line(path, colour, 1.4, dash, name if len(lines) > 1 else ""))
    return Chart(x, y, down, lines=drawn, framed=False).url()


def _path(points: Values) -> str:
    """A line through points (n, 2), broken where one is not finite; a point without neighbours is a dot."""
    known = np.isfinite(points.sum(axis=1))
    starts = known & ~np.concatenate([[False], known[:-1]])
    path = []
    for (x, y), is_start in zip(points[known], starts[known], strict=True):
        at = f"{x:.1f} {y:.1f}"
        path.append(f"M{at}L{at}" if is_start else f"L{at}")
    return "".join(path)


def _pixel_axes(size: tuple[int, int]) -> tuple[Axis, Axis]:
    """The axes x and y of an image of ``size`` (height, width)."""
    return Axis(-0.5, size[1] - 0.5, "x, px"), Axis(-0.5, size[0] - 0.5, "y, px")


def _height(size: tuple[int, int], right: int) -> int:
    """The height of axes for an image of ``size`` (height, width), with ``right`` pixels beside them."""
    return round(min(max((WIDTH - LEFT - right) * size[0] / size[1], LEAST), MOST))


def _in_axes(points: Values, size: tuple[int, int], down: int, right: int) -> Values:
    """Pixels (..., 2) of an image of ``size`` (height, width) as pixels of the axes."""
    return (points + 0.5) * ((WIDTH - LEFT - right) / size[1], down / size[0])


def _round_factor(factor: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is at most ``factor``, and at most 1000."""
    power = 10.0 ** math.floor(math.log10(factor))
    return min(max(digit * power for digit in (1, 2, 5) if digit * power <= factor * (1 + 1e-9)), 1000.0)
