"""The tables of a report: figures with their meaning, and the provenance of the transform."""

from typing import NamedTuple

from register.transforms.frame import Frame
from register.transforms.quality import Quality
from register.transforms.transform import Transform


class Row(NamedTuple):
    """A figure: its name, its value with its unit, and its meaning."""

    name: str
    value: str
    meaning: str


def figures(quality: Quality) -> list[Row]:
    """The figures that are known."""
    rows = [
        Row("Channels", quality.compared(), "of the fixed image with that of the moving image"),
        Row(
            "Similarity",
            _range(quality.similarity_before, quality.similarity_after, "{:.3f} → {:.3f}"),
            f"before and after alignment, at most 1, measured by {quality.metric or 'the metric'}",
        ),
        Row(
            "Displacement",
            _range(quality.displacement_median, quality.displacement_max, "{:.2f} px, largest {:.2f} px"),
            "of the entire map; median and largest",
        ),
        Row(
            "Local displacement",
            _range(
                quality.local_displacement_median,
                quality.local_displacement_max,
                "{:.2f} px, largest {:.2f} px",
            ),
            "relative to the global map; median and largest",
        ),
        Row(
            "Overlap",
            _one(quality.overlap, "{:.0%}"),
            "share of the fixed image that lies on the moving image",
        ),
        *_evidence(quality),
    ]
    return [row for row in rows if row.value]


def _evidence(quality: Quality) -> list[Row]:
    """The figures on which the verdict is based."""
    return [
        Row(
            "Expected error",
            _one(quality.expected_error, "{:.2f} px"),
            "of the median patch; two of three errors are smaller than expected",
        ),
        Row(
            "Regions recognised",
            _one(quality.recognised, "{:.0%}"),
            "mean percentile rank of the similarity of matching regions among all regions; chance: 50 %",
        ),
        Row(
            "Above chance",
            _one(quality.above_chance, "{:.1f} σ"),
            "similarity of the global map, compared with the same images shifted against each other",
        ),
        Row(
            "Round trip",
            _one(quality.back_and_forth, "{:.2f} px"),
            "median error after aligning in both directions and composing the two maps",
        ),
        Row(
            "Agreeing features",
            _one(quality.matches_agreeing, "{:d}"),
            "matched features, not used by the optimisation, that agree with the map",
        ),
        Row(
            "Smallest local det J",
            _one(quality.det_min, "{:.2f}"),
            "Jacobian determinant relative to the global map; above 0 nothing folds",
        ),
    ]


def origin(transform: Transform) -> list[tuple[str, str]]:
    """Files, versions, device and seconds: a name and a value each."""
    known = transform.provenance
    rows = [("fixed", _file(transform.fixed)), ("moving", _file(transform.moving))]
    names = ("created", "register", "torch", "numpy", "python", "device", "threads", "seed")
    rows += [(name, str(known[name])) for name in names if name in known]
    rows += [(f"seconds, {stage}", f"{seconds:.2f}") for stage, seconds in known.seconds.items()]
    return [*rows, ("metric", transform.quality.metric_choice or "")]


def _file(frame: Frame) -> str:
    """The path, size and hash of an image."""
    where = f"{frame.path or 'an array'}, {frame.width} × {frame.height}"
    return f"{where}, SHA-256 {frame.sha256}" if frame.sha256 else where


def _one(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _range(first: float | None, last: float | None, form: str) -> str:
    return "" if first is None or last is None else form.format(first, last)
