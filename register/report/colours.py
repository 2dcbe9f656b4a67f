"""Colour maps."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

NOTHING = "#8a8a90"
"""The grey of values that are not finite."""
STOPS = {
    "viridis": "440154 482475 414487 355f8d 2a788e 21918c 22a884 44bf70 7ad151 bddf26 fde725",
    "cividis": "00224e 083370 35456c 4f576c 666970 7d7c78 948e77 aea371 c8b866 e5cf52 fee838",
    "plasma": "0d0887 41049d 6a00a8 8f0da4 b12a90 cc4778 e16462 f2844b fca636 fcce25 f0f921",
    "PuOr": "7f3b08 b25706 e08214 fcb761 fee0b6 f6f6f7 d8daeb b1aad1 8073ac 532687 2d004b",
}
"""Eleven colours of every map in equal steps, interpolated linearly; within 13 of 255 levels of the full
tables.

All maps are readable with colour-blind vision. Sources: viridis and plasma (Smith and van der Walt 2015),
cividis (Nuñez, Anderton and Renslow 2018), PuOr (ColorBrewer)."""


def stops(name: str) -> list[str]:
    """The colours of a map from its low to its high end, as ``#rrggbb``."""
    return [f"#{stop}" for stop in STOPS[name].split()]


def shade(shares: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """The colours (..., 3) of values (...,) from 0 (low end) to 1; ``NOTHING`` if not finite."""
    table = np.array([_rgb(stop) for stop in stops(name)])
    at = np.linspace(0, 1, len(table))
    known = np.isfinite(shares)
    colours = np.stack([np.interp(np.where(known, shares, 0), at, channel) for channel in table.T], -1)
    return np.rint(np.where(known[..., None], colours, _rgb(NOTHING))).astype(np.uint8)


def _rgb(name: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(name.removeprefix("#")))
