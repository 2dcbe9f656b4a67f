"""The figures at the top of a report, in words: what was compared, overlap, stretch, expected error."""

import numpy as np

from register.report.figures import Row
from register.transforms.quality import Quality, Verdict
from register.transforms.transform import Transform

MEANING_OF_ERROR = (
    "of the fit: two of three places are nearer than this to where the images fit best. Consecutive sections "
    "and other sensors differ by themselves, so points that you mark may be further apart."
)


def summary(transform: Transform) -> list[Row]:
    """The figures that a person needs first; those that are not known are left out."""
    quality = transform.quality
    rows = [Row("Compared", quality.compared() or "the only channel of both images", "")]
    if quality.overlap is not None and quality.verdict != Verdict.FAILED:
        rows.append(Row("Overlap", f"{quality.overlap:.0%} of the fixed image", ""))
    stretch = largest_stretch(transform)
    if stretch is not None and quality.verdict != Verdict.FAILED:
        rows.append(Row("Largest local stretch", f"{stretch:.1f} %", "relative to the global map"))
    if quality.expected_error is not None:
        rows.append(Row("Expected error", _length(transform, quality.expected_error), MEANING_OF_ERROR))
    return rows + _landmarks(transform, quality)


def largest_stretch(transform: Transform) -> float | None:
    """The largest change of a length by the local part of a transform, in percent; None without one."""
    if transform.grid is None or transform.matrices is None:
        return None
    centres = transform.grid.centres().reshape(-1, 2)
    inside = transform.fixed.contains(centres)
    if not inside.any():
        return None
    local = np.linalg.inv(transform.matrix[:, :2]) @ transform.expand(centres[inside])[1]
    return float(np.abs(np.linalg.svd(local, compute_uv=False) - 1).max() * 100)


def _landmarks(transform: Transform, quality: Quality) -> list[Row]:
    """The errors of landmarks, and the residuals of those that are held."""
    rows = []
    errors = quality.landmarks and quality.landmarks.after and quality.landmarks.after.tre
    if errors and errors.median is not None and errors.p90 is not None:
        words = (
            f"median {_length(transform, errors.median)}, nine of ten below {_length(transform, errors.p90)}"
        )
        rows.append(
            Row("Error of your landmarks", words, quality.landmarks.note or "" if quality.landmarks else "")
        )
    if quality.held:
        kept = [one for one in quality.held.points if one.kept]
        largest = max((one.residual or 0.0 for one in kept), default=0.0)
        words = (
            f"{len(kept)} of {len(quality.held.points)} held, largest residual {_length(transform, largest)}"
        )
        rows.append(Row("Held landmarks", words, f"their standard deviation is {quality.held.sigma:.1f} px"))
    return rows


def _length(transform: Transform, pixels: float) -> str:
    """A length of the moving image in pixels, and in its unit where that is known."""
    size = transform.moving.pixel_size
    if size is None or size.unit is None:
        return f"{pixels:.2g} px" if pixels < 10 else f"{pixels:.0f} px"
    return f"{pixels * (size.x + size.y) / 2:.2g} {size.unit} ({pixels:.2g} px)"
