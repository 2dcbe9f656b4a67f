"""Charts of an alignment, drawn by matplotlib as SVG that follows the reader's light or dark scheme."""

import base64
import io
import math
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import NDArray

from register.report.panels import Grey

INK, LIGHT, DARK = "#010203", "#1b1b1f", "#e8e8ec"
"""A colour that stands for text while the chart is drawn, and what it becomes in either scheme."""
STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "register", "font.family": "sans-serif", "font.size": 9,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
}  # fmt: skip
WIDTH, LEFT, BOTTOM, TOP, BAR = 4.6, 0.6, 0.5, 0.25, 0.85
"""Inches: a chart's width, its margins, and the room for a colour bar."""
NOTHING = "#8a8a90"
"""Grey of patches where there is nothing to see."""
ARROWS = 24

Values = NDArray[np.float64]


def patch_map(values: Values, size: tuple[int, int], label: str, *, low: float, high: float, colours: str, log: bool = False) -> str:
    """Values (rows, columns), one per patch, over a fixed image of ``size`` (height, width) pixels, with a colour bar; NaN is grey."""
    from matplotlib import colormaps, colors

    figure, axes = _figure(size)
    scale = colors.LogNorm(low, high) if log else colors.Normalize(low, high)
    extent = (-0.5, size[1] - 0.5, size[0] - 0.5, -0.5)
    shown = axes.imshow(np.ma.masked_invalid(values), cmap=colormaps[colours].with_extremes(bad=NOTHING), norm=scale, extent=extent, aspect="equal")
    _bar(figure, shown, axes, label, _round_numbers(low, high) if log else None)
    _pixels(axes)
    return _svg(figure)


def _round_numbers(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten between two positive numbers."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [digit * 10.0**power for power in powers for digit in (1, 2, 5) if low <= digit * 10.0**power <= high]


def arrows(background: Grey, size: tuple[int, int], at: Values, move: Values) -> str:
    """Displacements ``move`` (n, 2) at fixed points ``at`` (n, 2) over the fixed image, in pixels; drawn larger than they are when they are small."""
    figure, axes = _figure(size)
    axes.imshow(background, cmap="gray", vmin=0, vmax=1.6, extent=(-0.5, size[1] - 0.5, size[0] - 0.5, -0.5), aspect="equal")
    length = np.hypot(*move.T)
    step = max(size) / ARROWS
    factor = max(step / max(float(np.percentile(length, 98)), 1e-9), 1e-9)
    factor = min(10 ** np.floor(np.log10(factor)) * max(k for k in (1, 2, 5) if k <= factor / 10 ** np.floor(np.log10(factor)) + 1e-9), 1000)
    drawn = axes.quiver(*at.T, *(move * factor).T, length, cmap="plasma", angles="xy", scale_units="xy", scale=1, width=0.004)
    _bar(figure, drawn, axes, "length, px")
    axes.set_title(f"arrows {factor:g} × their length", fontsize=9)
    axes.set_xlim(-0.5, size[1] - 0.5)
    axes.set_ylim(size[0] - 0.5, -0.5)
    _pixels(axes)
    return _svg(figure)


def mesh(background: Grey, size: tuple[int, int], mapped: Values) -> str:
    """The patch grid's centres (rows, columns, 2), as they lie on the moving image of ``size`` (height, width), in its pixels."""
    figure, axes = _figure(size, bar=0.1)
    axes.imshow(background, cmap="gray", vmin=0, vmax=1.4, extent=(-0.5, size[1] - 0.5, size[0] - 0.5, -0.5), aspect="equal")
    for line in (*mapped, *mapped.swapaxes(0, 1)):
        axes.plot(*line.T, color="#f0a000", linewidth=0.7)
    _pixels(axes)
    return _svg(figure)


def curves(history: dict[str, list[float]]) -> str:
    """The loss of every level, step by step."""
    figure, axes = _figure((2, 3), bar=0.1)
    for number, (name, losses) in enumerate(history.items()):
        axes.plot(range(1, len(losses) + 1), losses, marker="osD^v<>"[number % 7], markersize=3, linewidth=1.2, label=name)
    axes.set_xlabel("step")
    axes.set_ylabel("loss, mean log of what is unexplained")
    if history:
        axes.legend(fontsize=8, frameon=False, labelcolor=INK)
    axes.spines[["top", "right"]].set_visible(False)
    return _svg(figure)


def over_frames(lines: dict[str, Values], label: str) -> str:
    """What changes from frame to frame, a line each; gaps where it is not known."""
    figure, axes = _figure((1, 3), bar=0.1)
    for (name, values), style in zip(lines.items(), ("-", "--"), strict=False):
        axes.plot(values, style, linewidth=1, label=name)
    axes.set_xlabel("frame")
    axes.set_ylabel(label)
    axes.yaxis.set_major_formatter("{x:.3g}")
    if len(lines) > 1:
        axes.legend(fontsize=8, frameon=False, labelcolor=INK)
    axes.spines[["top", "right"]].set_visible(False)
    return _svg(figure)


def _figure(size: tuple[int, int], bar: float = BAR) -> tuple[Figure, Axes]:
    """A chart whose axes are as high as a picture of ``size`` (height, width) asks for. Margins are given, because finding them takes longer than drawing."""
    across = WIDTH - LEFT - bar
    down = min(max(across * size[0] / size[1], 1.4), 5.5)
    high = down + BOTTOM + TOP
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, high))
        axes = figure.add_axes((LEFT / WIDTH, BOTTOM / high, across / WIDTH, down / high))
        axes.locator_params(nbins=5)
        return figure, axes


def _bar(figure: Figure, drawn: Any, axes: Axes, label: str, ticks: list[float] | None = None) -> None:
    """A colour bar; with ``ticks`` those alone are labelled, because a logarithm's own labels are formulas, which take longer than all the rest."""
    axes.apply_aspect()
    place = axes.get_position()
    with rc_context(STYLE):
        bar = figure.colorbar(drawn, cax=figure.add_axes((place.x1 + 0.03, place.y0, 0.03, place.height)), label=label)
        if ticks:
            bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
            bar.ax.minorticks_off()


def _pixels(axes: Axes) -> None:
    axes.set_xlabel("x, px")
    axes.set_ylabel("y, px")


def _svg(figure: Figure) -> str:
    """The figure as a data address of an SVG whose text has the colour of the reader's scheme."""
    out = io.StringIO()
    for patch in (figure.patch, *(axes.patch for axes in figure.axes)):
        patch.set_visible(False)
    with rc_context(STYLE):
        FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None})  # type: ignore[no-untyped-call]
    head, body = out.getvalue().split("<defs>", 1)
    scheme = f"<style>svg{{color:{LIGHT}}}@media(prefers-color-scheme:dark){{svg{{color:{DARK}}}}}</style>"
    text = f"{head}{scheme}<defs>{body}".replace(INK, "currentColor")
    return "data:image/svg+xml;base64," + base64.b64encode(text.encode()).decode()
