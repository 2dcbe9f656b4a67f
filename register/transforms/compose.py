"""Invert transforms and compose them. Both are exact: no new transform is fitted."""

import math
from dataclasses import replace

import numpy as np

from register.errors import TransformError
from register.geometry import affine, arrays, models
from register.geometry.arrays import Float64
from register.transforms.frame import Frame
from register.transforms.quality import Provenance, Quality, Verdict
from register.transforms.transform import Link, Transform


def invert(transform: Transform) -> Transform:
    """The transform from the moving to the fixed image.

    It is the inverse matrix of a global model, or else a chain that is inverted numerically. Its ``quality``
    holds the round-trip error in pixels.
    """
    chain = tuple(link.reversed() for link in reversed(_links(transform)))
    made = Transform("chain", transform.moving, transform.fixed, affine.invert(transform.matrix), chain=chain)
    return _simplest(made, transform.model, [transform])


def compose(first: Transform, second: Transform) -> Transform:
    """The transform from A to C, composed of one from A to B and one from B to C.

    It is a product of matrices for global models, or else a chain. Raises ``TransformError`` when the sizes
    of B differ.
    """
    ends, starts = first.moving, second.fixed
    if (ends.width, ends.height) != (starts.width, starts.height):
        raise TransformError(
            f"the first transform maps to an image of {ends.width} × {ends.height} pixels, but the second one"
            f" maps from an image of {starts.width} × {starts.height} pixels"
        )
    made = Transform(
        "chain",
        first.fixed,
        second.moving,
        affine.compose(second.matrix, first.matrix),
        chain=_links(first) + _links(second),
    )
    both_global = models.is_global(first.model) and models.is_global(second.model)
    model = models.common(first.model, second.model) if both_global else "chain"
    return _simplest(made, model, [first, second])


def followed_by(transform: Transform, matrix: Float64, moving: Frame) -> Transform:
    """The transform followed by an affine map (2, 3) from its moving image to another image, ``moving``.

    It has the grid, the verdict and the figures of the transform; lengths in them stay those of its moving
    image.
    """
    after = affine.compose(matrix, transform.matrix)
    if transform.chain or transform.sides:
        last = Link(Transform("affine", transform.moving, moving, matrix))
        chain = (*_links(transform), last)
        return replace(transform, model="chain", moving=moving, matrix=after, chain=chain, sides=None)
    matrices = None if transform.matrices is None else affine.compose(matrix, transform.matrices)
    return replace(transform, moving=moving, matrix=after, matrices=matrices)


def round_trip(transform: Transform, side: int = 64) -> Float64:
    """The distance (n,), in fixed pixels, between fixed points and where the map and its inverse take them.

    They are the points of a regular grid that are mapped onto the moving image, or all of them where none is.
    Of a transform with sides they have a counterpart.
    """
    points = transform.fixed.sample_points(side)
    if not transform.continuous and (known := np.isfinite(transform.expected_error(points))).any():
        points = points[known]
    mapped = transform.map(points)
    valid = transform.moving.contains(mapped)
    if valid.any():
        points, mapped = points[valid], mapped[valid]
    return np.linalg.norm(transform.inverse().map(mapped) - points, axis=1)


def _links(transform: Transform) -> tuple[Link, ...]:
    return transform.chain or (Link(transform),)


def _simplest(chain: Transform, model: str, sources: list[Transform]) -> Transform:
    """A chain, or its matrix alone for a global model, with its quality and provenance.

    The verdict is ``Verdict.worst`` of the sources' verdicts, with the reasons of those sources. The other
    figures are the error of the round trip, and the expected error in the middle of the fixed image.
    """
    made = replace(chain, model=model, chain=()) if models.is_global(model) else chain
    middle = np.array([[(made.fixed.width - 1) / 2, (made.fixed.height - 1) / 2]])
    error, expected = round_trip(made), float(chain.expected_error(middle)[0])
    verdict, reasons = _worst([x.quality for x in sources])
    quality = Quality(
        verdict=verdict,
        reasons=reasons,
        expected_error=round(expected, 4) if math.isfinite(expected) else None,
        round_trip_median=round(arrays.median(error), 9),
        round_trip_max=round(float(error.max()), 9),
    )
    provenance = Provenance(sources=tuple(map(_source, sources)))
    return replace(made, quality=quality, provenance=provenance)


def _worst(sources: list[Quality]) -> tuple[Verdict, tuple[str, ...]]:
    """The worst of some verdicts, and the reasons of the transforms that have it."""
    verdict = Verdict.worst(quality.verdict for quality in sources)
    reasons = [why for quality in sources if quality.verdict == verdict for why in quality.reasons]
    if verdict == Verdict.UNKNOWN and not reasons:
        reasons = ["a source transform has no verdict"]
    return verdict, tuple(dict.fromkeys(reasons))


def _source(transform: Transform) -> Provenance:
    """The provenance of a source with the paths of its images before it."""
    known = transform.provenance
    return Provenance.of({"fixed": transform.fixed.path, "moving": transform.moving.path, **known})
