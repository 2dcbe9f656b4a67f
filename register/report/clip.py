"""A short clip of frames before and after alignment, as an animated PNG that plays in every browser."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from register.report.html import data_url

FRAMES, SIDE, PAUSE, GAP = 24, 200, 120, 4
"""Most frames of a clip, longest side of a picture in pixels, milliseconds per frame, and pixels between the
pictures."""
LOW, HIGH = 1, 99.7
"""Percentiles of the pixels that are black and white."""
Small = NDArray[np.float32]


def clip_url(pairs: Sequence[tuple[Small, Small]]) -> str:
    """The data URL of a clip of pictures (h, w) before and after, side by side, with the same grey values."""
    chosen = [pairs[n] for n in np.linspace(0, len(pairs) - 1, min(FRAMES, len(pairs))).round().astype(int)]
    low, high = np.percentile(np.stack([after for _, after in chosen]), (LOW, HIGH))
    pictures = [side_by_side(pair, float(low), float(high)) for pair in chosen]
    out = io.BytesIO()
    pictures[0].save(out, "png", save_all=True, append_images=pictures[1:], duration=PAUSE, loop=0)
    return data_url("png", out.getvalue())


def side_by_side(pair: tuple[Small, Small], low: float, high: float) -> Image.Image:
    """Two pictures (h, w) beside one another, between two grey values."""
    height, width = pair[0].shape
    scale = min(1.0, SIDE / max(height, width))
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    made = Image.new("L", (2 * size[0] + GAP, size[1]), 255)
    for number, picture in enumerate(pair):
        grey = np.clip((picture - low) / max(high - low, 1e-9), 0, 1)
        drawn = Image.fromarray((255 * grey).round().astype(np.uint8))
        made.paste(drawn.resize(size, Image.Resampling.BILINEAR), (number * (size[0] + GAP), 0))
    return made
