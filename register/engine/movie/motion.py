"""The motion of a frame of a movie, and the transform that says the same."""

from dataclasses import dataclass

from torch import Tensor

from register.geometry.spline_map import SplineMap
from register.transforms.movie import REFERENCE, FrameTransform, without_folds
from register.transforms.quality import Verdict


@dataclass(frozen=True, eq=False)
class Motion:
    """The motion of a frame: M (x + u(x)) with ``matrix`` M (2, 3) and ``coefficients`` (2, rows, columns) of
    the spline u, None for a global model; its verdict with reasons, and figures.

    ``similarity`` is the mean correlation of blocks, ``expected_error`` in pixels.
    """

    matrix: Tensor
    coefficients: Tensor | None
    verdict: Verdict
    reasons: tuple[str, ...]
    wrong: float
    similarity: float
    expected_error: float


def of_motion(motion: Motion, size: tuple[int, int], against: int = REFERENCE) -> FrameTransform:
    """The transform of a motion of a frame of a size (height, width)."""
    own = None if motion.coefficients is None else motion.coefficients.double().numpy()
    found = FrameTransform(
        SplineMap(*size, motion.matrix.numpy(), own),
        motion.verdict,
        motion.reasons,
        motion.similarity,
        motion.expected_error,
        against,
    )
    return without_folds(found)
