"""Transforms from transforms: the other way round, and one after the other. Exact: nothing is fitted anew."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from register.errors import TransformError
from register.geometry import affine
from register.images import interpolation
from register.transforms.quality import Provenance, Quality, Verdict
from register.transforms.transform import Link, Transform

MODELS = ("translation", "rigid", "similarity", "affine")


def invert(transform: Transform) -> Transform:
    """The transform from moving to fixed: the inverse matrix of a global model, otherwise a chain that inverts numerically.

    ``quality`` holds the round trip's error in pixels.
    """
    chain = tuple(link.reversed() for link in reversed(_links(transform)))
    made = Transform("chain", transform.moving, transform.fixed, affine.invert(transform.matrix), chain=chain)
    return _simplest(made, transform.model, [transform])


def compose(first: Transform, second: Transform) -> Transform:
    """The transform A to C of one from A to B and one from B to C: a product of matrices for global models, otherwise a chain.

    Raises ``TransformError`` when the first does not end on an image of the size the second starts from.
    """
    ends, starts = first.moving, second.fixed
    if (ends.width, ends.height) != (starts.width, starts.height):
        raise TransformError(
            f"the first transform leads to an image of {ends.width} × {ends.height} pixels, the second starts from one of {starts.width} × {starts.height}"
        )
    made = Transform(
        "chain",
        first.fixed,
        second.moving,
        affine.compose(second.matrix, first.matrix),
        chain=_links(first) + _links(second),
    )
    known = all(x.model in MODELS for x in (first, second))
    return _simplest(
        made, max(first.model, second.model, key=MODELS.index) if known else "chain", [first, second]
    )


def round_trip(transform: Transform, side: int = 64) -> Tensor:
    """How far (n,) points of the fixed image come back from where they were, in fixed pixels, after the map and its inverse."""
    x, y = (
        torch.linspace(0, length - 1, side, dtype=torch.float64)
        for length in (transform.fixed.width, transform.fixed.height)
    )
    points = torch.cartesian_prod(x, y)
    mapped = transform.map(points)
    shown = interpolation.inside(mapped, transform.moving.height, transform.moving.width)
    points, mapped = (points[shown], mapped[shown]) if bool(shown.any()) else (points, mapped)
    return (transform.inverse().map(mapped) - points).norm(dim=1)


def _links(transform: Transform) -> tuple[Link, ...]:
    return transform.chain or (Link(transform),)


def _simplest(chain: Transform, model: str, sources: list[Transform]) -> Transform:
    """A chain, or its matrix alone for a global model, with its quality and provenance.

    The verdict is ``Verdict.worst`` of the sources' verdicts, with the reasons of those sources. The other figures
    are the error of the round trip, and the expected error in the middle of the fixed image.
    """
    made = replace(chain, model=model, chain=()) if model in MODELS else chain
    middle = torch.tensor([[(made.fixed.width - 1) / 2, (made.fixed.height - 1) / 2]], dtype=torch.float64)
    error, expected = round_trip(made), float(chain.expected_error(middle))
    verdict, reasons = _worst([x.quality for x in sources])
    quality = Quality(
        verdict=verdict,
        reasons=reasons,
        expected_error=round(expected, 4) if math.isfinite(expected) else None,
        round_trip_median=round(float(error.median()), 9),
        round_trip_max=round(float(error.max()), 9),
    )
    provenance = Provenance(sources=tuple(map(_source, sources)))
    return replace(made, quality=quality, provenance=provenance)


def _worst(sources: list[Quality]) -> tuple[Verdict, tuple[str, ...]]:
    """The worst verdict of some, and the reasons of those that have it."""
    verdict = Verdict.worst(quality.verdict for quality in sources)
    reasons = [why for quality in sources if quality.verdict == verdict for why in quality.reasons]
    if verdict == Verdict.UNKNOWN and not reasons:
        reasons = ["a source transform has no verdict"]
    return verdict, tuple(dict.fromkeys(reasons))


def _source(transform: Transform) -> Provenance:
    """The provenance of a source with the paths of its images before it."""
    known = transform.provenance
    return Provenance.of({"fixed": transform.fixed.path, "moving": transform.moving.path, **known})
