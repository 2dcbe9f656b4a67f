"""Charts of an alignment as SVG that follows the reader's light or dark scheme.

A template draws them, because loading a plotting library takes longer than a whole report.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from register.report.axes import Axis, Values
from register.report.colours import shade, stops
from register.report.html import address, data_address, exact_address, template
from register.report.panels import Grey

WIDTH, LEFT, TOP, BOTTOM, BAR, MARGIN, LEGEND = 442, 66, 24, 44, 80, 12, 16
"""Pixels of a chart: its width, the room beside its axes for their labels, for a colour bar, or without one, and for each two names of a legend."""
LEAST, MOST = 140, 520
"""Pixels, the height of axes; a picture that asks for less or more is stretched."""
DASHES = ("", "6 3", "2 3", "9 3 2 3", "4 2", "1 2", "12 4")
"""Of the lines of one chart, so that they are told apart without colour."""
COLOURS = ("currentColor", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#5a7fd6")
"""Of the same lines, after Okabe and Ito 2008."""
MESH, SHADES, ARROWS = "#f0a000", 16, 24
"""The colour of a patch grid; how many colours arrows have; how many stand along the longer side."""


@dataclass(frozen=True)
class Line:
    """A path in pixels of the axes, and how it is drawn; one with a name stands in the legend, below."""

    path: str
    colour: str
    width: float = 1.2
    dash: str = ""
    name: str = ""


def patch_map(
    values: Values,
    size: tuple[int, int],
    label: str,
    *,
    low: float,
    high: float,
    colours: str,
    log: bool = False,
) -> str:
    """Values (rows, columns), one per patch, over a fixed image of ``size`` (height, width) pixels, with a colour bar; NaN is grey."""
    bar = Axis(low, high, label, log)
    picture = exact_address(shade(bar.share(values), colours))
    return _chart(
        *_pixels(size), _height(size, BAR), image=picture, blocks=True, bar=bar, stops=stops(colours)
    )


def arrows(background: Grey, size: tuple[int, int], at: Values, move: Values) -> str:
    """Displacements ``move`` (n, 2) at fixed points ``at`` (n, 2) over the fixed image, in pixels; drawn larger than they are when they are small."""
    length = np.hypot(*move.T)
    factor = _round_factor(max(size) / ARROWS / max(quantile(length, 0.9), 1e-9))
    bar = Axis(0.0, max(float(length.max()), 1e-3), "length, px")
    down = _height(size, BAR)
    tails, tips = (_in_axes(points, size, down, BAR) for points in (at, at + move * factor))
    heads = tips - tails
    sides = np.stack([-heads[:, 1], heads[:, 0]], 1)
    barbs = [tips - 0.3 * heads + way * sides for way in (0.18, -0.18)]
    shades = np.minimum((bar.share(length) * SHADES).astype(int), SHADES - 1)
    lines = [
        Line(
            "".join(
                f"M{tail[0]:.1f} {tail[1]:.1f}L{tip[0]:.1f} {tip[1]:.1f}M{one[0]:.1f} {one[1]:.1f}L{tip[0]:.1f} {tip[1]:.1f}L{two[0]:.1f} {two[1]:.1f}"
                for tail, tip, one, two in zip(
                    *(points[shades == tone] for points in (tails, tips, *barbs)), strict=True
                )
            ),
            "#" + shade(np.array((tone + 0.5) / SHADES), "plasma").tobytes().hex(),
            1.4,
        )
        for tone in sorted(set(shades.tolist()))
    ]
    title = f"arrows {factor:g} × their length"
    return _chart(
        *_pixels(size),
        down,
        image=address(background / 1.6),
        lines=lines,
        bar=bar,
        stops=stops("plasma"),
        title=title,
    )


def mesh(background: Grey, size: tuple[int, int], mapped: Values) -> str:
    """The patch grid's centres (rows, columns, 2), as they lie on the moving image of ``size`` (height, width), in its pixels."""
    down = _height(size, MARGIN)
    at = _in_axes(mapped, size, down, MARGIN)
    path = "".join(_path(line) for line in (*at, *at.swapaxes(0, 1)))
    return _chart(*_pixels(size), down, image=address(background / 1.4), lines=[Line(path, MESH, 0.9)])


def curves(history: dict[str, list[float]]) -> str:
    """The loss of every level, step by step."""
    lines = {name: np.array(losses, dtype=float) for name, losses in history.items()}
    return _plot(lines, "step", "loss, mean log of what is unexplained", shape=(2, 3), first=1)


def quantile(values: Values, share: float) -> float:
    """The value below which a ``share`` of all lies; NumPy's own loads its masked arrays for it, which takes longer than a chart."""
    return float(torch.from_numpy(values).flatten().quantile(share))


def over_frames(lines: dict[str, Values], label: str) -> str:
    """What changes from frame to frame, a line each; gaps where it is not known."""
    return _plot(lines, "frame", label, shape=(1, 3))


def _plot(
    lines: dict[str, Values], across: str, label: str, *, shape: tuple[int, int], first: int = 0
) -> str:
    """Lines of numbers against their place, counted from ``first``; named in a legend when there are several."""
    seen = np.concatenate([values[np.isfinite(values)] for values in lines.values()])
    low, high = float(seen.min()), float(seen.max())
    room = 0.05 * (high - low) or 0.5
    x, y = (
        Axis(first, max(first + max(len(values) for values in lines.values()) - 1, first + 1), across),
        Axis(high + room, low - room, label),
    )
    down, wide = _height(shape, MARGIN), WIDTH - LEFT - MARGIN
    drawn = []
    for number, (name, values) in enumerate(lines.items()):
        at = np.stack(
            [x.share(np.arange(first, first + len(values), dtype=float)) * wide, y.share(values) * down], 1
        )
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
        drawn.append(Line(_path(at), colour, 1.4, dash, name if len(lines) > 1 else ""))
    return _chart(x, y, down, lines=drawn, framed=False)


def _path(points: Values) -> str:
    """A line through points (n, 2), broken where one is not known; a lone point is a dot."""
    known = np.isfinite(points.sum(axis=1))
    starts = known & ~np.concatenate([[False], known[:-1]])
    return "".join(
        (f"M{x:.1f} {y:.1f}" if begins else "") + f"L{x:.1f} {y:.1f}"
        for (x, y), begins, seen in zip(points, starts, known, strict=True)
        if seen
    )


def _pixels(size: tuple[int, int]) -> tuple[Axis, Axis]:
    """Both axes of an image of ``size`` (height, width)."""
    return Axis(-0.5, size[1] - 0.5, "x, px"), Axis(-0.5, size[0] - 0.5, "y, px")


def _height(size: tuple[int, int], right: int) -> int:
    return round(min(max((WIDTH - LEFT - right) * size[0] / size[1], LEAST), MOST))


def _in_axes(points: Values, size: tuple[int, int], down: int, right: int) -> Values:
    """Image pixels (..., 2) in pixels of axes that show an image of ``size`` (height, width)."""
    return (points + 0.5) * ((WIDTH - LEFT - right) / size[1], down / size[0])


def _round_factor(factor: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is not above, and at most 1000."""
    power = 10.0 ** math.floor(math.log10(factor))
    return min(max(digit * power for digit in (1, 2, 5) if digit * power <= factor * (1 + 1e-9)), 1000.0)


def _chart(x: Axis, y: Axis, down: int, *, bar: Axis | None = None, **drawn: Any) -> str:
    """A chart as a data address: its axes, their height in pixels, and what is drawn between them."""
    given = {"image": None, "blocks": False, "lines": [], "stops": [], "title": "", "framed": True} | drawn
    across, named = WIDTH - LEFT - (BAR if bar else MARGIN), [line for line in given["lines"] if line.name]
    height = TOP + down + BOTTOM + LEGEND * math.ceil(len(named) / 2)
    text = template("chart.svg").render(
        width=WIDTH,
        height=height,
        left=LEFT,
        top=TOP,
        across=across,
        down=down,
        x=x,
        y=y,
        bar=bar,
        named=named,
        **given,
    )
    return data_address("svg+xml", text.encode())
