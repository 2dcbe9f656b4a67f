"""Lookup tables: how grey values are displayed. Colours of an indexed picture are no such table."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.uint16]
"""A lookup table (3, n): red, green and blue of every value, 16 bits."""
ROUNDING = 257 / 65535
"""Largest deviation from a ramp that rounding to 8 bits explains, as a fraction of white."""
LEAST_STEPS = 0.5
"""Share of a ramp's entries that differ from all others; fewer are colours of a picture."""


def ramp_colour(table: Table) -> tuple[int, int, int] | None:
    """The colour (red, green, blue; 8 bits) at the bright end of a ramp between black and one colour.

    None for a table that is no ramp: its entries are the colours of an indexed picture, or show values in
    several hues. The ramp may be inverted, and need not be linear.
    """
    values = table.astype(np.float64) / 65535
    for ramp in (values, values[:, ::-1]):
        brightness = ramp.max(axis=0)
        top = brightness[-1]
        if brightness[0] > ROUNDING or top <= ROUNDING or (np.diff(brightness) < 0).any():
            continue
        expected = ramp[:, -1:] * (brightness / top)
        steps = len(np.unique(brightness)) / min(len(brightness), 256)
        if np.abs(ramp - expected).max() <= ROUNDING and steps >= LEAST_STEPS:
            red, green, blue = (round(255 * float(x)) for x in ramp[:, -1])
            return red, green, blue
    return None


def is_grey(table: Table) -> bool:
    """Whether a table is the ramp from black to white, which says nothing about the channel."""
    return ramp_colour(table) == (255, 255, 255) and bool(table[0, 0] < table[0, -1])


def signed_colour(red: int, green: int, blue: int) -> int:
    """An opaque colour (8 bits each) as OME's signed integer, RGBA from the highest byte."""
    return int.from_bytes((red, green, blue, 255), "big", signed=True)


def channel_colours(tables: list[Table]) -> tuple[int, ...]:
    """The colours of channels, one table each, as OME's signed integers.

    None unless all tables are ramps and one of them is not grey.
    """
    found = [ramp_colour(table) for table in tables]
    if not tables or all(map(is_grey, tables)) or None in found:
        return ()
    return tuple(signed_colour(*colour) for colour in found if colour is not None)


def resized(table: NDArray[Any], entries: int) -> Table:
    """A table with another number of entries, which is a multiple or a fraction of its own."""
    places = np.arange(entries) * table.shape[1] // entries
    return np.ascontiguousarray(table[:, places], np.uint16)
