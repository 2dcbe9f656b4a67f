"""The quality of a whole movie: crispness, correlation to the mean, motion that is left, slow changes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from register.engine.movie import reference
from register.engine.movie.filtered import FINE, is_constant
from register.engine.movie.fit import fit
from register.engine.movie.shift import shift_of
from register.geometry import affine_tensors
from register.geometry.spline_map import SplineMap
from register.settings import Settings

COMPONENTS, TAIL, FEWEST = 5, 0.2, 20
"""Principal components that are examined, the share of the frames at either end of each that is averaged, and
frames from which on they are."""
BLOCKS, LEAST_CHANGE, LEAST_SIGMA = 10, 0.1, 6.0
"""Blocks of frames whose median similarities are compared; the change, as a share of their largest, and in
standard errors, from which it is reported."""
ACROSS = 15
"""Points per axis at which a displacement is measured."""


@dataclass(frozen=True)
class Residual:
    """Motion between the frames at the two ends of a principal component of aligned frames: the ``share`` of
    the variance that it explains, the shift in pixels, and the root mean square and the largest of the
    displacement with deformation."""

    share: float
    shift: float
    rms: float
    largest: float


@dataclass(frozen=True)
class Session:
    """Figures of a movie, None where there are too few frames.

    ``crispness`` is the norm of the gradient of the mean picture, before and after; ``correlation`` the
    median correlation of frames with that mean. ``residual`` is the motion that is left, by principal
    component, the one that explains most first. ``slow_change`` is the range of the similarity to the
    reference over time, as a share of its largest value, where it exceeds chance: the plane may have moved
    along z.
    """

    crispness: tuple[float, float]
    correlation: tuple[float, float] | None
    residual: tuple[Residual, ...]
    slow_change: float | None


def crispness(mean: NDArray[np.float64]) -> float:
    """The Frobenius norm of the gradient of a mean picture (h, w).

    Source: Pnevmatikakis & Giovannucci, "NoRMCorre", J. Neurosci. Methods 291 (2017).
    """
    down, across = np.gradient(np.nan_to_num(mean))
    return float(np.sqrt(np.square(down).sum() + np.square(across).sum()))


def correlation(frames: NDArray[np.float32]) -> float:
    """The median correlation of frames (n, h, w) with their mean."""
    flat = frames.reshape(len(frames), -1).astype(np.float64)
    flat = flat - flat.mean(1, keepdims=True)
    mean = flat.mean(0)
    size = np.linalg.norm(flat, axis=1) * np.linalg.norm(mean)
    return float(np.median(flat @ mean / np.maximum(size, 1e-12)))


def residual(frames: NDArray[np.float32], step: int) -> tuple[Residual, ...]:
    """The motion that is left in aligned frames (n, h, w) whose pixels are ``step`` pixels of the movie.

    The frames with the lowest and those with the highest values of a principal component are averaged, and
    the means are aligned to one another. Empty for few frames. Source: suite2p's registration metrics
    (Stringer & Pachitariu, "Computational processing of neural recordings", Curr. Opin. Neurobiol. 55, 2019).
    """
    if len(frames) < FEWEST or min(frames.shape[1:]) < 2 * ACROSS:
        return ()
    flat = frames.reshape(len(frames), -1).astype(np.float64)
    flat = flat - flat.mean(0)
    values, vectors = np.linalg.eigh(flat @ flat.T)
    tail, found = max(round(TAIL * len(frames)), 3), list[Residual]()
    for number in range(1, COMPONENTS + 1):
        order = np.argsort(vectors[:, -number])
        low, high = (torch.from_numpy(frames[part].mean(0)) for part in (order[:tail], order[-tail:]))
        if is_constant(low) or is_constant(high):
            continue
        found.append(_between(low, high, float(values[-number] / max(values.sum(), 1e-30)), step))
    return tuple(found)


def _between(low: Tensor, high: Tensor, share: float, step: int) -> Residual:
    """The motion between two means (h, w)."""
    made = reference.prepare(low, Settings(), sigma=FINE)
    frame = made.prepared(high, None)
    coarse = made.coarse
    x, y = shift_of(made.spectrum, frame.on(coarse).nan_to_num())
    moved = affine_tensors.translation(x * coarse.step, y * coarse.step)
    fitted = fit(made, frame, moved)
    own = None if fitted.coefficients is None else fitted.coefficients.double().numpy()
    of = SplineMap(*made.size, fitted.matrix.numpy(), own)
    height, width = made.size
    down, across = np.mgrid[: height - 1 : ACROSS * 1j, : width - 1 : ACROSS * 1j]
    points = np.stack([across.ravel(), down.ravel()], 1)
    far = step * np.linalg.norm(of.map(points) - points, axis=1)
    return Residual(
        share, step * float(np.hypot(*of.shift)), float(np.sqrt(np.square(far).mean())), float(far.max())
    )


def slow_change(similarity: Sequence[float]) -> float | None:
    """The range of the similarity over time, as a share of its largest value; None where it does not exceed
    chance, or for few frames.

    ``similarity`` are those of good frames, in order. Medians of tenths of the movie are compared.
    """
    values = np.array(similarity)
    if len(values) < BLOCKS * 4:
        return None
    blocks = np.array_split(values, BLOCKS)
    medians = np.array([np.median(block) for block in blocks])
    within = np.concatenate([block - middle for block, middle in zip(blocks, medians, strict=True)])
    error = 1.25 * 1.4826 * np.median(np.abs(within)) / np.sqrt(len(values) / BLOCKS)
    change = float(medians.max() - medians.min())
    top = float(medians.max())
    if top <= 0 or change < LEAST_CHANGE * top or change < LEAST_SIGMA * error:
        return None
    return change / top
