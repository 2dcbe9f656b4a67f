"""Find compact sources: stars, beads, nuclei, fiducials.

The image minus its background, in units of its noise, is filtered by differences of Gaussians of several
widths, and the local maxima over place and width are sources (Lindeberg, "Feature detection with automatic
scale selection", IJCV 30, 1998). Their places are centroids under a Gaussian window that follows the source
(Bertin & Arnouts, "SExtractor", A&AS 117, 1996). Single pixels and lines one pixel wide are no sources:
cosmic rays and hot pixels, which no optical system blurs.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from register.engine.points import background
from register.engine.points.background import LEAST_SIGNAL, Plane
from register.geometry import affine
from register.geometry.arrays import Float64
from register.images import filters, pyramid
from register.images.pyramid import Level

MOST_PIXELS = 2**23
"""Pixels of the copy on which sources are looked for, at most."""
WIDTHS = 1.0, 1.5, 2.25, 3.4, 5.0, 7.5
"""Standard deviations, in pixels, of the Gaussians that are looked for."""
HALVED = 3.0
"""Width from which the image is looked at with pixels twice as large."""
SURROUND = 1.6
"""Width of the Gaussian that is subtracted, in units of the width."""
GHOST, NEAR = 0.05, 4.0
"""A maximum with less than this share of the signal of another one within some widths belongs to that."""
SECOND, REACH = 2.0, 4.5
"""Distance from a source, in units of its width, up to which another maximum is a second one of it, and up to
which it explains what is above the noise."""
MOST = 20_000
"""Sources that are kept: the ones with the largest signal."""
CLEAR, LEAST_ALIKE = 8.0, 0.3
"""Signal from which the shape of a source is clear, and the correlation of a source with a Gaussian, at
least."""
LEAST_SHOWN = 0.25
"""Share of the variance around a source that is not noise, at least, where its shape is measured."""
SAMPLE = 256
"""Approximate number of maxima by which an image is recognised that shows more than sources."""
STEPS = 6
"""Steps by which a window follows its source."""
FLOOR = 0.02
"""Error of a place, in pixels, that no signal reduces."""


@dataclass(frozen=True)
class Sources:
    """Sources of an image, those with the largest signal first.

    ``places`` (n, 2) are (x, y) in pixels of the original, ``errors`` (n,) their standard deviations per
    axis, and ``signals`` (n,) are in standard deviations of the noise. ``alike`` is the median correlation of
    the clear ones with Gaussians, in units of what noise leaves of it, ``cover`` is the share of the image
    that is above the noise, ``explained`` the share of this that the sources explain. ``size`` is the height
    and width of the original.
    """

    places: Float64
    errors: Float64
    signals: Float64
    alike: float
    cover: float
    explained: float
    size: tuple[float, float]

    def __len__(self) -> int:
        return len(self.places)

    def only(self, some: NDArray[np.bool_]) -> "Sources":
        """Some (n,) of the sources."""
        return replace(self, places=self.places[some], errors=self.errors[some], signals=self.signals[some])


@dataclass(frozen=True)
class Maxima:
    """The maxima of an image over place and width that may be sources, those with the largest signal first.

    ``places`` (n, 2) and ``widths`` (n,) are in pixels of ``flat``, which ``original_from_flat`` (2, 3) maps
    to the original. ``cover``, ``explained`` and ``size`` are those of ``Sources``.
    """

    flat: Plane
    original_from_flat: Tensor
    places: Float64
    widths: Float64
    signals: Float64
    cover: float
    explained: float
    size: tuple[float, float]

    @classmethod
    def of(cls, level: Level) -> "Maxima":
        """The maxima of a grey level (1, h, w) of any range, found once."""
        return pyramid.cached(level, "maxima", lambda: cls._found(level))

    @classmethod
    def _found(cls, level: Level) -> "Maxima":
        (height, width), pixel = level.size, pyramid.pixel(level)
        level = pyramid.shrink(level, (height * width / MOST_PIXELS) ** 0.5)
        flat = background.flattened(level)
        found, fine, coarse = [], flat, background.halved(flat)
        for width_of in WIDTHS:
            factor = 1 if width_of < HALVED else 2
            found.append((factor, *_filtered(fine if factor == 1 else coarse, width_of / factor)))
        places, widths, signals = _maxima(found)
        keep = _apart(places, widths, signals, flat.image.shape)[:MOST]
        places, widths, signals = places[keep], widths[keep], signals[keep]
        explained, size = _explained(flat, places, widths), (height * pixel, width * pixel)
        return cls(flat, level.original_from_level, places, widths, signals, flat.cover, explained, size)

    def alike(self) -> float:
        """The median correlation of the clear maxima with Gaussians, estimated from ``SAMPLE`` of them."""
        clear = _clear(self.signals)
        some = clear[:: max(len(clear) // SAMPLE, 1)]
        _, alike, least = _centred(self.flat, self.places[some], self.widths[some])
        return _median(alike / least)


def of(level: Level) -> Sources:
    """The sources of a grey level (1, h, w) of any range, found once; they are brighter than what is around
    them, or all darker."""
    return pyramid.cached(level, "sources", lambda: of_maxima(Maxima.of(level)))


def coarser(level: Level, factor: int) -> Level:
    """The image without its background and what is no source, with pixels ``factor`` times as large."""
    return pyramid.shrink(pyramid.cached(level, "flat", lambda: _flat(Maxima.of(level))), factor)


def _flat(found: Maxima) -> Level:
    """The level of the image in which maxima were found."""
    image, valid = (torch.from_numpy(x)[None] for x in (found.flat.image, found.flat.valid))
    return Level(image, valid.to(image), found.original_from_flat)


def of_maxima(found: Maxima) -> Sources:
    """The maxima that are sources, by their centroids."""
    places, alike, expected = _centred(found.flat, found.places, found.widths)
    clear = _clear(found.signals)
    keep, up = np.flatnonzero(alike > LEAST_ALIKE), found.original_from_flat
    return Sources(
        affine.apply(up, torch.from_numpy(places[keep])).numpy(),
        np.hypot(found.widths[keep] / found.signals[keep], FLOOR) * affine.scale(up),
        found.signals[keep],
        _median((alike / expected)[clear]),
        found.cover,
        found.explained,
        found.size,
    )


def _clear(signals: Float64) -> NDArray[np.int64]:
    """The signals (n,) that are clear; all where none is."""
    clear = np.flatnonzero(signals > CLEAR)
    return clear if len(clear) else np.arange(len(signals))


def _median(values: Float64) -> float:
    return float(np.median(values)) if len(values) else 0.0


def _filtered(flat: Plane, width: float) -> tuple[NDArray[np.float32], float]:
    """The difference of Gaussians (h, w) in units of its noise, and the width."""
    cv2 = filters.opencv()
    inner, outer = (cv2.GaussianBlur(flat.image, (0, 0), w) for w in (width, SURROUND * width))
    one, two = width**2, (SURROUND * width) ** 2
    noise = np.sqrt((1 / (4 * one) + 1 / (4 * two) - 1 / (one + two)) / np.pi)
    return (inner - outer) / np.float32(noise), width


def _maxima(
    found: list[tuple[int, NDArray[np.float32], float]],
) -> tuple[Float64, Float64, Float64]:
    """Places (n, 2) in pixels, widths (n,) and signals (n,) of the maxima over place and width."""
    cv2 = filters.opencv()
    highest = {factor: _high([image for f, image, _ in found if f == factor]) for factor in (1, 2)}
    square = np.ones((3, 3), np.uint8)
    places, widths, signals = [], [], []
    for factor, image, width in found:
        radius = max(round(NEAR * width), 1)
        around = cv2.dilate(highest[factor], np.ones((2 * radius + 1,) * 2, np.uint8))
        at_peak = (image >= LEAST_SIGNAL) & (image >= cv2.dilate(image, square)) & (image >= GHOST * around)
        at_peak &= image >= highest[factor] * 0.999
        y, x = np.nonzero(at_peak)
        places.append((np.stack([x, y], 1) + 0.5) * factor - 0.5)
        widths.append(np.full(len(x), width * factor))
        signals.append(image[y, x].astype(float))
    return np.concatenate(places), np.concatenate(widths), np.concatenate(signals)


def _high(images: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    result: NDArray[np.float32] = np.maximum.reduce(images)
    return result


def _apart(places: Float64, widths: Float64, signals: Float64, size: tuple[int, ...]) -> NDArray[np.int64]:
    """The maxima that are no second ones of a stronger source, by decreasing signal."""
    order = np.argsort(-signals, kind="stable")
    owner = np.full(size, -1, np.int32)
    _paint(owner, places[order[::-1]], SECOND * widths[order[::-1]] + 1, order[::-1])
    x, y = _pixels(places, size)
    return order[(owner[y, x] == np.arange(len(places)))[order]]


def _paint(picture: NDArray[Any], places: Float64, radii: Float64, values: NDArray[np.int64]) -> None:
    """Paint discs at places (n, 2), the last ones on top."""
    cv2 = filters.opencv()
    centres = np.rint(places).astype(int).tolist()
    for (x, y), radius, value in zip(
        centres, np.rint(radii).astype(int).tolist(), values.tolist(), strict=True
    ):
        cv2.circle(picture, (x, y), radius, value, -1)


def _pixels(places: Float64, size: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The columns and rows (n,) of the pixels at places (n, 2)."""
    x, y = np.rint(places).astype(np.int64).T
    return x.clip(0, size[1] - 1), y.clip(0, size[0] - 1)


def _explained(flat: Plane, places: Float64, widths: Float64) -> float:
    """The share of the valid pixels above the noise that are near a source."""
    above = background.above_noise(flat.image) & flat.valid
    near = np.zeros(above.shape, np.uint8)
    _paint(near, places, REACH * widths, np.ones(len(places), np.int64))
    total = int(above.sum())
    return float((above & (near > 0)).sum()) / total if total else 0.0


def _centred(flat: Plane, places: Float64, widths: Float64) -> tuple[Float64, Float64, Float64]:
    """Centroids (n, 2) under a window that follows the source, and the correlation (n,) of each source with a
    Gaussian of its width there; 0 for a centroid that left its source.

    The last (n,) is the correlation to expect of a Gaussian with the noise of pixels.
    """
    result, alike, expected = places.copy(), np.zeros(len(places)), np.ones(len(places))
    noise = background.of_pixels(flat) ** 2
    for width in np.unique(widths):
        some = np.flatnonzero(widths == width)
        corner = np.rint(places[some]).astype(int)
        values, steps = _around(flat.image, corner, int(np.ceil(3 * width)))
        at = places[some] - corner
        for _ in range(STEPS):
            weighted = values * _gaussians(steps, at, width)
            total = np.maximum(weighted.sum((1, 2)), 1e-6)
            step = [(weighted * d).sum((1, 2)) / total for d in _distances(steps, at)]
            at = at + np.clip(2 * np.stack(step, 1), -width, width)
        result[some] = corner + at
        near = slice(*np.searchsorted(steps, (-2 * width, 2 * width + 1e-9)))
        gaussian, inner = _gaussians(steps[near], at, width), values[:, near, near]
        stayed = np.hypot(*(result[some] - places[some]).T) < 2 * width
        alike[some] = _correlation(inner, gaussian) * stayed
        share = noise / np.maximum(inner.var((1, 2)), 1e-12)
        expected[some] = np.sqrt(np.clip(1 - share, LEAST_SHOWN, 1))
    return result, alike, expected


def _around(
    image: NDArray[np.float32], corner: NDArray[np.int64], radius: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The pixels (n, d, d) around others (n, 2), 0 outside, and their distances (d,) from these."""
    wide, steps = np.pad(image, radius), np.arange(-radius, radius + 1)
    rows = (corner[:, 1].clip(0, image.shape[0] - 1) + radius)[:, None, None] + steps[:, None]
    columns = (corner[:, 0].clip(0, image.shape[1] - 1) + radius)[:, None, None] + steps
    return wide[rows, columns], steps


def _distances(steps: NDArray[np.int64], at: Float64) -> tuple[Float64, Float64]:
    """The distances along x and y of pixels from places (n, 2): (n, 1, d) and (n, d, 1)."""
    return (steps - at[:, :1])[:, None, :], (steps - at[:, 1:])[:, :, None]


def _gaussians(steps: NDArray[np.int64], at: Float64, width: float) -> Float64:
    """Gaussians (n, d, d) at places (n, 2)."""
    x, y = _distances(steps, at)
    return np.exp(-(x**2) / (2 * width**2)) * np.exp(-(y**2) / (2 * width**2))


def _correlation(one: NDArray[Any], other: NDArray[Any]) -> Float64:
    """The correlation (n,) of pictures (n, d, d)."""
    one, other = (x - x.mean((1, 2), keepdims=True) for x in (one, other))
    energy = np.square(one).sum((1, 2)) * np.square(other).sum((1, 2))
    return np.asarray((one * other).sum((1, 2)) / np.sqrt(np.maximum(energy, 1e-12)))
