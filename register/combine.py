"""Transforms from transforms: the other way round, and one after the other. Exact: nothing is fitted anew."""

from dataclasses import replace

import torch
from torch import Tensor

from register import affine, sampling
from register.errors import TransformError
from register.transform import Link, Transform

MODELS = ("translation", "rigid", "similarity", "affine")
VERDICTS = ("ok", "suspect", "failed")


def invert(transform: Transform) -> Transform:
    """The transform from moving to fixed: the inverse matrix of a global model, otherwise a chain that inverts numerically.

    ``quality`` holds the round trip's error in pixels.
    """
    matrix = affine.invert(transform.matrix)
    if transform.model in MODELS:
        return _with_quality(Transform(transform.model, transform.moving, transform.fixed, matrix), [transform])
    chain = tuple(link.reversed() for link in reversed(_links(transform)))
    return _with_quality(Transform("chain", transform.moving, transform.fixed, matrix, chain=chain), [transform])


def compose(first: Transform, second: Transform) -> Transform:
    """The transform A to C of one from A to B and one from B to C: a product of matrices for global models, otherwise a chain.

    Raises ``TransformError`` when the first does not end on an image of the size the second starts from.
    """
    ends, starts = first.moving, second.fixed
    if (ends.width, ends.height) != (starts.width, starts.height):
        raise TransformError(
            f"the first transform leads to an image of {ends.width} × {ends.height} pixels, the second starts from one of {starts.width} × {starts.height}"
        )
    matrix = affine.compose(second.matrix, first.matrix)
    if first.model in MODELS and second.model in MODELS:
        model = max(first.model, second.model, key=MODELS.index)
        return _with_quality(Transform(model, first.fixed, second.moving, matrix), [first, second])
    return _with_quality(Transform("chain", first.fixed, second.moving, matrix, chain=_links(first) + _links(second)), [first, second])


def round_trip(transform: Transform, side: int = 64) -> Tensor:
    """How far (n,) points of the fixed image come back from where they were, in fixed pixels, after the map and its inverse."""
    x, y = (torch.linspace(0, length - 1, side, dtype=torch.float64) for length in (transform.fixed.width, transform.fixed.height))
    points = torch.cartesian_prod(x, y)
    mapped = transform.map(points)
    shown = sampling.inside(mapped, transform.moving.height, transform.moving.width)
    points, mapped = (points[shown], mapped[shown]) if bool(shown.any()) else (points, mapped)
    return (transform.inverse().map(mapped) - points).norm(dim=1)


def _links(transform: Transform) -> tuple[Link, ...]:
    return transform.chain or (Link(transform),)


def _with_quality(made: Transform, sources: list[Transform]) -> Transform:
    """The transform with the worst verdict of its sources and its own round trip's error."""
    error = round_trip(made)
    known = [x.quality for x in sources if x.quality.get("verdict") in VERDICTS]
    worst = max(known, key=lambda quality: VERDICTS.index(quality["verdict"]), default={"verdict": "ok"})
    quality = {
        "verdict": worst["verdict"],
        "reasons": list(worst.get("reasons", [])),
        "round_trip_median": round(float(error.median()), 9),
        "round_trip_max": round(float(error.max()), 9),
    }
    sources_known = [{"fixed": x.fixed.path, "moving": x.moving.path, **x.provenance} for x in sources]
    return replace(made, quality=quality, provenance={"sources": sources_known})
