"""Results of align, batch and series as tables, and as plain values for ``--json``."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from register.cli.output import coloured, print_columns, print_rows
from register.report import advice

if TYPE_CHECKING:
    from register.transforms.quality import HeldLandmarks
    from register.workflows.align import Result
    from register.workflows.batch import PairOutcome
    from register.workflows.merge import Merged
    from register.workflows.movie.table import Row
    from register.workflows.movie.volume import VolumeRow
    from register.workflows.pairs import Pairing
    from register.workflows.plan import Plan

COLOURS = {"ok": "green", "suspect": "yellow", "failed": "red", "unknown": "yellow", "error": "red"}
WORDS = tuple(COLOURS)
LISTED = 20
"""How many frames or landmarks are named."""


def verdict_colour(word: str) -> str:
    """The colour of a verdict, or of ``error``."""
    return COLOURS.get(word, "red")


def result(done: Result, verbose: bool) -> None:
    """Print verdict, figures and files of an alignment; with ``verbose`` also the seconds per stage."""
    quality, transform = done.alignment.quality, done.alignment.transform
    verdict = coloured(quality.verdict, verdict_colour(quality.verdict))
    rows = [("verdict", "\n".join([verdict, *quality.reasons])), *_measured(done)]
    steps = advice.next_steps(transform)
    if quality.held:
        rows.append(("landmarks", "\n".join(_held(quality.held))))
    rows.append(("seconds", f"{done.seconds:.1f}"))
    if verbose:
        seconds = transform.provenance.seconds
        rows += [(f"  {stage}", f"{value:.2f}") for stage, value in seconds.items()]
    rows += [("note", note) for note in [*done.notes, *quality.notes]]
    rows += [(role, str(path)) for role, path in done.files.items()]
    rows += [("next", f"{step.words}\n{step.command}") for step in steps[:1]]
    print_rows(rows)


def _measured(done: Result) -> list[tuple[str, str]]:
    """Model and figures of an alignment."""
    quality, grid = done.alignment.quality, done.alignment.transform.grid
    patches = "" if grid is None else f", {grid.columns} × {grid.rows} patches"
    rows = [
        ("model", f"{done.alignment.transform.model}{patches}, compared by {quality.metric}"),
        ("displacement", _median_and_largest(quality.displacement_median, quality.displacement_max)),
    ]
    if grid is not None:
        local = _median_and_largest(quality.local_displacement_median, quality.local_displacement_max)
        rows.append(("  local part", local))
    if quality.compared():
        rows.insert(1, ("channels", quality.compared()))
    before, after = _number(quality.similarity_before, ".3f"), _number(quality.similarity_after, ".3f")
    return [
        *rows,
        ("similarity", f"{before} before, {after} after"),
        ("overlap", f"{_number(quality.overlap, '.0%')} of the fixed image"),
        ("folds", f"{quality.folds} (smallest det J {_number(quality.det_min, '.2f')})"),
    ]


def _held(held: HeldLandmarks) -> list[str]:
    """The number of held landmarks with their standard deviation, and the residual of each."""
    kept = sum(bool(one.kept) for one in held.points)
    given = "given" if held.sigma_given else "from their scatter"
    lines = [f"{kept} of {len(held.points)} held, sigma {_number(held.sigma, '.2f')} px ({given})"]
    for number, one in enumerate(held.points[:LISTED], 1):
        left_out = "" if one.kept else ", not used: check it"
        lines.append(f"{number}: {_number(one.residual, '.2f')} px{left_out}")
    if len(held.points) > LISTED:
        lines.append(f"and {len(held.points) - LISTED} more in transform.json")
    return lines


def _median_and_largest(median: float | None, largest: float | None) -> str:
    return f"median {_number(median, '.2f')} px, largest {_number(largest, '.2f')} px"


def _number(value: float | None, form: str) -> str:
    return "unknown" if value is None else format(value, form)


def outcomes(
    done: list[PairOutcome], count: int, output: str, quiet: bool, submission: str | None = None
) -> None:
    """Print the counts of verdicts, the pairs that failed, and the files; with ``quiet`` only errors."""
    if quiet:
        for one in done:
            if one.error:
                print(f"error: {one.id}: {one.error}", file=sys.stderr)
        return
    rows = [("pairs", _counts([one.verdict or "error" for one in done]))]
    if len(done) < count:
        rows.append(("not done", f"{count - len(done)}: --max-failures was reached"))
    rows += [(one.id, _failure(one)) for one in done if one.failed]
    folder = output if "://" in output else str(Path(output))
    rows += [("table", f"{folder}/summary.csv"), ("pictures", f"{folder}/index.html")]
    print_rows([*rows, *([("submission", submission)] if submission else [])])


def _failure(one: PairOutcome) -> str:
    word = "error" if one.error else "failed"
    channels = f" (compared: {one.channels})" if one.channels else ""
    return f"{coloured(word, 'red')} {one.error or one.reasons}{channels}"


def _counts(words: Sequence[str]) -> str:
    return ", ".join(f"{words.count(word)} {word}" for word in WORDS if word in words) or "none"


def series(rows: list[Row], aligned: Path, output: Path) -> None:
    """Print the counts of verdicts, the largest shift, the frames that failed, and the files."""
    largest = max(math.hypot(row.shift_x, row.shift_y) for row in rows)
    table = [
        ("frames", _counts([row.verdict for row in rows])),
        ("largest shift", f"{largest:.2f} px"),
    ]
    for word in ("failed", "suspect"):
        numbers = [str(row.frame) for row in rows if row.verdict == word]
        if numbers:
            more = f" and {len(numbers) - LISTED} more" if len(numbers) > LISTED else ""
            table.append((word, ", ".join(numbers[:LISTED]) + more))
    files = [output / name for name in ("series.csv", "quality.json", "index.html", "transforms.npz")]
    print_rows([*table, *(("", str(path)) for path in (aligned, *files) if path.exists())])


def volumes(rows: list[VolumeRow], output: Path) -> None:
    """Print the counts of verdicts, the largest shift along z, and the files."""
    table = [
        ("volumes", _counts([row.verdict for row in rows])),
        ("largest shift along z", f"{max(abs(row.shift.z) for row in rows):.2f} planes"),
    ]
    print_rows([*table, ("", str(output / "volumes.csv")), ("", str(output / "plane_NN"))])


def pairing(found: Pairing) -> None:
    """Print the pairs that would be aligned, and the images without exactly one partner."""
    print_columns([("id", "fixed", "moving"), *((one.id, one.fixed, one.moving) for one in found.pairs)])
    for problem in found.problems:
        print(f"unpaired: {problem}")


def pairing_values(found: Pairing) -> dict[str, object]:
    """The pairs and problems as plain values for ``--json``."""
    rows = [{"id": one.id, "fixed": one.fixed, "moving": one.moving} for one in found.pairs]
    return {"pairs": rows, "problems": list(found.problems)}


def merged(done: Merged) -> None:
    """Print what was merged: the file, its size, its channels, and remarks."""
    size = f"{done.width} × {done.height}, {len(done.channels) or 'red, green, blue'} channels, {done.dtype}"
    rows = [("file", done.file), ("size", size), ("channels", "\n".join(done.channels))]
    print_rows([*rows, *(("note", note) for note in done.notes)])


def plan(planned: Plan) -> None:
    """Print what would be done."""
    *values, files = plan_values(planned).items()
    rows = [(name, str(value)) for name, value in values]
    print_rows([*rows, (files[0], "\n".join(map(str, planned.files)))])


def plan_values(planned: Plan) -> dict[str, object]:
    """The plan as plain values for ``--json``."""
    return {
        "fixed_size": list(planned.fixed),
        "moving_size": list(planned.moving),
        "moving_dtype": planned.moving_dtype,
        "working_size": list(planned.working),
        "device": planned.device,
        "memory_megabytes": round(planned.memory / 1e6),
        "would_write": [str(path) for path in planned.files],
    }


def result_values(done: Result) -> dict[str, object]:
    """Plain values for ``--json``: verdict, files, seconds, and the transform without its patches."""
    content = done.alignment.transform.values()
    content.pop("patches")
    return {
        "verdict": done.alignment.quality.verdict,
        "files": {role: str(path) for role, path in done.files.items()},
        "seconds": round(done.seconds, 3),
        "next": [step._asdict() for step in advice.next_steps(done.alignment.transform)],
        "transform": content,
    }
