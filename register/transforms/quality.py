"""The quality of a transform, overall and per patch, and its provenance."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from register.transforms.record import (
    ABSENT,
    TABLE,
    Count,
    Flag,
    Kind,
    Number,
    Numbers,
    NumbersOrNone,
    Record,
    Rows,
    Text,
    Texts,
    many,
    one,
)


class Verdict(StrEnum):
    """The reliability of an alignment."""

    OK = "ok"
    """No evidence against it was found."""
    SUSPECT = "suspect"
    """It may be wrong; see the reasons."""
    FAILED = "failed"
    """It is probably wrong."""
    UNKNOWN = "unknown"
    """It was not assessed: the transform was made manually or by another program."""

    @classmethod
    def worst(cls, verdicts: Iterable["Verdict"]) -> "Verdict":
        """The verdict of a combination of transforms, from those of its parts.

        It is the first of failed, suspect, unknown and ok that a part has. So a combination is ok only if
        every part is ok, and an unknown part makes it unknown unless another part is failed or suspect. The
        verdict of no parts is unknown.
        """
        found = set(verdicts)
        order = (cls.FAILED, cls.SUSPECT, cls.UNKNOWN, cls.OK)
        return next((verdict for verdict in order if verdict in found), cls.UNKNOWN)


@dataclass(frozen=True, eq=False, kw_only=True)
class CanvasPlace(Record):
    """The position of a canvas on the fixed image, and its size: (x, y) in fixed pixels."""

    origin: Numbers = ABSENT
    size: Numbers = ABSENT


@dataclass(frozen=True, eq=False, kw_only=True)
class ErrorFigures(Record):
    """Median, mean, 90th percentile and maximum of the distances between landmarks."""

    median: Number = ABSENT
    mean: Number = ABSENT
    p90: Number = ABSENT
    max: Number = ABSENT


@dataclass(frozen=True, eq=False, kw_only=True)
class LandmarkErrors(Record):
    """Target registration errors: ``tre`` in moving pixels, ``rtre`` as a share of the fixed diagonal."""

    tre: Annotated[ErrorFigures | None, one(lambda: ErrorFigures)] = ABSENT
    rtre: Annotated[ErrorFigures | None, one(lambda: ErrorFigures)] = ABSENT


@dataclass(frozen=True, eq=False, kw_only=True)
class Intervals(Record):
    """95 % intervals (low, high), in moving pixels, of the median and of the mean error."""

    median: Numbers = ABSENT
    mean: Numbers = ABSENT


@dataclass(frozen=True, eq=False, kw_only=True)
class LandmarkSummary(Record):
    """Landmark errors before and after the alignment.

    ``landmarks`` is their number, ``diagonal`` that of the fixed image in pixels, ``robustness`` the share of
    landmarks that are nearer after the alignment than before.
    """

    landmarks: Count = ABSENT
    diagonal: Number = ABSENT
    robustness: Number = ABSENT
    before: Annotated[LandmarkErrors | None, one(lambda: LandmarkErrors)] = ABSENT
    after: Annotated[LandmarkErrors | None, one(lambda: LandmarkErrors)] = ABSENT
    interval_95: Annotated[Intervals | None, one(lambda: Intervals)] = ABSENT
    files: Text = ABSENT
    note: Text = ABSENT


@dataclass(frozen=True, eq=False, kw_only=True)
class HeldLandmark(Record):
    """A landmark that the alignment holds: its ``fixed`` and ``moving`` point (x, y) in pixels.

    ``residual`` is the distance, in moving pixels, of the mapped fixed point from the moving one, ``kept``
    whether the landmark was used; if not, it disagreed with the images and the other landmarks.
    """

    fixed: Numbers = ABSENT
    moving: Numbers = ABSENT
    residual: Number = ABSENT
    kept: Flag = ABSENT


@dataclass(frozen=True, eq=False, kw_only=True)
class HeldLandmarks(Record):
    """The landmarks that an alignment holds, in the order of their file.

    ``sigma`` is their standard deviation per axis in moving pixels, ``sigma_given`` whether the user gave it
    or it was estimated.
    """

    sigma: Number = ABSENT
    sigma_given: Flag = ABSENT
    files: Text = ABSENT
    points: Annotated[tuple[HeldLandmark, ...], many(lambda: HeldLandmark)] = ABSENT


@dataclass(frozen=True, eq=False, kw_only=True)
class PointFigures(Record):
    """Sources of two fields of points: how many each image has, how many of the ``possible`` ones match.

    ``residual`` is the standard deviation of their places per axis in moving pixels, ``chance`` the logarithm
    (base 10) of the number of maps on which as many would agree by chance.
    """

    fixed: Count = ABSENT
    moving: Count = ABSENT
    matched: Count = ABSENT
    possible: Count = ABSENT
    residual: Number = ABSENT
    chance: Number = ABSENT


@dataclass(frozen=True, eq=False, kw_only=True)
class Quality(Record):
    """The quality of a transform. Unknown figures are None; a missing verdict is ``unknown``.

    Displacements and ``back_and_forth`` are in pixels of the fixed image, ``expected_error`` in pixels of
    the moving image. It also reads as a mapping: ``quality["verdict"]``, ``quality.get("overlap")``,
    ``dict(quality)``.
    """

    verdict: Annotated[Verdict, Kind(Verdict, Verdict.UNKNOWN)] = ABSENT
    reasons: Texts = ABSENT
    expected_error: Number = ABSENT
    probability_wrong: Number = ABSENT
    recognised: Number = ABSENT
    recognised_sigma: Number = ABSENT
    back_and_forth: Number = ABSENT
    similarity_before: Number = ABSENT
    similarity_after: Number = ABSENT
    similarity_global: Number = ABSENT
    above_chance: Number = ABSENT
    matches_agreeing: Count = ABSENT
    overlap: Number = ABSENT
    displacement_median: Number = ABSENT
    displacement_max: Number = ABSENT
    local_displacement_median: Number = ABSENT
    local_displacement_max: Number = ABSENT
    det_global: Number = ABSENT
    det_min: Number = ABSENT
    folds: Count = ABSENT
    metric: Text = ABSENT
    metric_choice: Text = ABSENT
    notes: Texts = ABSENT
    search_significance: Number = ABSENT
    rejected_matrix: Rows = ABSENT
    fixed_grey: Text = ABSENT
    moving_grey: Text = ABSENT
    shared_channels: Texts = ABSENT
    canvas: Annotated[CanvasPlace | None, one(lambda: CanvasPlace)] = ABSENT
    landmarks: Annotated[LandmarkSummary | None, one(lambda: LandmarkSummary)] = ABSENT
    held: Annotated[HeldLandmarks | None, one(lambda: HeldLandmarks)] = ABSENT
    points: Annotated[PointFigures | None, one(lambda: PointFigures)] = ABSENT
    round_trip_median: Number = ABSENT
    round_trip_max: Number = ABSENT
    shift: Numbers = ABSENT

    def compared(self) -> str:
        """The channels that were compared and the names that both images have.

        Empty where they are not known, and for two images of one channel.
        """
        if not self.fixed_grey or not self.moving_grey or self.fixed_grey == self.moving_grey == "gray":
            return ""
        shared = f"; both images name {', '.join(self.shared_channels)}" if self.shared_channels else ""
        return f"{self.fixed_grey} with {self.moving_grey}{shared}"


@dataclass(frozen=True, eq=False, kw_only=True)
class PatchFigures(Record):
    """Figures of every patch (n,), row by row, the column fastest; empty where they are not known.

    ``confidence`` and the similarities are at most 1. ``status`` is ``ok``, ``weak`` (too little texture or
    similarity) or ``capped`` (the shift reached its limit). ``expected_error`` is in moving pixels, None
    where it is not known.
    """

    confidence: Numbers = ABSENT
    status: Texts = ABSENT
    similarity_before: Numbers = ABSENT
    similarity_after: Numbers = ABSENT
    expected_error: NumbersOrNone = ABSENT


@dataclass(frozen=True, eq=False, kw_only=True)
class Provenance(Record):
    """The origin of a transform: versions, device, seed, settings, seconds per stage and time of creation.

    ``history`` is the loss after every step, by level. ``frame`` and ``against`` belong to frames of a
    movie: the frame's number, and its reference. ``sources`` are those of the transforms that were
    combined; in them ``fixed`` and ``moving`` are the paths of their images.
    """

    fixed: Text = ABSENT
    moving: Text = ABSENT
    register: Text = ABSENT
    torch: Text = ABSENT
    numpy: Text = ABSENT
    python: Text = ABSENT
    device: Text = ABSENT
    threads: Count = ABSENT
    compiled: Flag = ABSENT
    seed: Count = ABSENT
    settings: Annotated[Mapping[str, Any], TABLE] = ABSENT
    files: Annotated[Mapping[str, list[str | None]], TABLE] = ABSENT
    history: Annotated[Mapping[str, list[float]], TABLE] = ABSENT
    created: Text = ABSENT
    seconds: Annotated[Mapping[str, float], TABLE] = ABSENT
    frame: Count = ABSENT
    against: Annotated[str | int | None, Kind(lambda value: value)] = ABSENT
    sources: Annotated[tuple["Provenance", ...], many(lambda: Provenance)] = ABSENT
