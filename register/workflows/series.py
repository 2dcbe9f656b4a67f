"""``register batch --series``: frames aligned to one frame, to their mean, or each to the frame before."""

import csv
import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register._version import __version__
from register.compute import device
from register.engine import frame
from register.errors import FileError, RegisterError
from register.files.atomic import write_text
from register.geometry import affine
from register.io.images.stack_write import stack_writer
from register.io.images.stacks import Stack, open_stack
from register.settings import Settings
from register.transforms.resample import warp_pixels
from register.transforms.transform import Link, Transform
from register.workflows import frames
from register.workflows.settings_files import hashes

TRANSFORMS, STAMP, TABLE, PAGE = "transforms", "series.json", "series.csv", "index.html"


@dataclass(frozen=True)
class Series:
    """A series: its frames, the reference, other channels, the output folder and the settings.

    ``to`` is first, previous, mean, middle or the number of a frame.
    """

    source: str
    to: str
    also: tuple[str, ...]
    output: Path
    settings: Settings


@dataclass(frozen=True)
class Row:
    """The outcome of a frame: verdict, reasons, similarity, shift of the centre in pixels, reference."""

    frame: int
    verdict: str
    reasons: str
    similarity: float | None
    shift_x: float
    shift_y: float
    against: str


def run(
    series: Series,
    *,
    count: int | None = None,
    redo: bool = False,
    tick: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """Align every frame and write the aligned stacks, the transforms, ``series.csv`` and ``index.html``.

    Transforms (``transforms/NNNNN.json``) of an interrupted run of the same series are used again unless
    ``redo``. Memory does not grow with the number of frames. Raises ``RegisterError``.
    """
    cut = series.settings.allow_truncated
    stack = open_stack(series.source, allow_truncated=cut)
    others = [open_stack(name, allow_truncated=cut) for name in series.also]
    count = count or min(device.cores(), len(stack))
    with ExitStack() as opened:
        for one in (stack, *others):
            opened.callback(one.close)
        opened.enter_context(
            device.using_threads(1 if count > 1 else series.settings.threads)
        )  # the workers use the others
        return _run(series, stack, others, count, redo, tick)


def _run(
    series: Series, stack: Stack, others: list[Stack], count: int, redo: bool, tick: Callable[[Row], None]
) -> list[Row]:
    """``run`` with the stacks open."""
    for name, other in zip(series.also, others, strict=True):
        if len(other) != len(stack) or other.shape[1:] != stack.shape[1:]:
            raise FileError(
                name,
                f"has {len(other)} frames of {other.shape[1:]}, the series {len(stack)} of {stack.shape[1:]}",
                "name the same frames",
            )
    names = [
        series.output / f"{stem}.tif"
        for stem in ("aligned", *(f"aligned_{Path(name).stem.removesuffix('.ome')}" for name in series.also))
    ]
    if len(set(names)) < len(names):
        raise RegisterError("two --also files have the same name; their results would overwrite each other")
    folder = series.output / TRANSFORMS
    stamp = _stamp(series, stack, others)
    known = {} if redo else _stamp_of(folder)
    if known == stamp and all(name.exists() for name in (*names, series.output / TABLE)):
        return read_table(series.output / TABLE)
    asked = frames.task(stack, series.to, series.settings, folder)
    if known.get("transforms") != stamp["transforms"]:
        for old in folder.glob("*.json"):
            old.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    (series.output / TABLE).unlink(missing_ok=True)  # its presence marks a complete series
    write_text(folder / STAMP, json.dumps(stamp, indent=1))
    rows, means = list[Row](), Means()
    found = _chained(frames.transforms(asked, count))
    _write(names, [stack, *others], _recorded(found, rows, tick), series.settings, means)
    write_text(series.output / TABLE, _table(rows))
    draw(series, rows, means)
    return rows


def _chained(found: Iterator[Transform]) -> Iterator[Transform]:
    """Transforms from the reference, composed of transforms from the reference or from the frame before."""
    before: Transform | None = None
    for transform in found:
        if transform.provenance.against != "reference" and before is not None:
            links = (*(before.chain or (Link(before),)), Link(transform))
            chained = Transform(
                "chain",
                before.fixed,
                transform.moving,
                affine.compose(transform.matrix, before.matrix),
                chain=links,
            )
            transform = replace(
                chained,
                quality=replace(transform.quality, shift=frame.shift(chained)),
                provenance=transform.provenance,
            )
        before = transform
        yield transform


def _recorded(
    found: Iterator[Transform], rows: list[Row], tick: Callable[[Row], None]
) -> Iterator[Transform]:
    """The transforms; a row of each is added to ``rows``."""
    for index, transform in enumerate(found):
        quality, against = transform.quality, transform.provenance.against
        across, down = quality.shift
        why = "; ".join(quality.reasons)
        row = Row(
            index,
            quality.verdict,
            why,
            quality.similarity_after,
            across,
            down,
            "reference" if against == "reference" else f"frame {against}",
        )
        rows.append(row)
        tick(row)
        yield transform


class Means:
    """The mean over a series of the frames' first channel, before and after the alignment."""

    def __init__(self) -> None:
        self.before: NDArray[np.float64] = np.zeros(())
        self.after: NDArray[np.float64] = np.zeros(())
        self.frames = 0

    def add(self, before: NDArray[Any], after: NDArray[Any]) -> None:
        """A frame (h, w) before and after."""
        self.before = self.before + np.nan_to_num(before.astype(np.float64))
        self.after = self.after + np.nan_to_num(after.astype(np.float64))
        self.frames += 1


def _write(
    names: list[Path], stacks: list[Stack], transforms: Iterator[Transform], chosen: Settings, means: Means
) -> None:
    """Resample and write frame by frame, each stack into its own file; all files are completed or none."""
    with ExitStack() as opened:
        add = [
            opened.enter_context(stack_writer(name, stack, chosen.compression))
            for name, stack in zip(names, stacks, strict=True)
        ]
        for index, transform in enumerate(transforms):
            for number, stack in enumerate(stacks):
                pixels = stack.frame(index)
                warped = warp_pixels(
                    pixels, transform, interpolation=chosen.interpolation, fill=_fill(chosen, stack)
                )
                add[number](warped)
                if number == 0:
                    means.add(pixels[0], warped[0])


def _fill(chosen: Settings, stack: Stack) -> float | None:
    return stack.nodata if chosen.fill == "auto" else float(chosen.fill)


def draw(series: Series, rows: list[Row], means: Means) -> None:
    """Draw ``index.html``: the drift, the frames that failed, and the means before and after."""
    from register.report.movie import movie  # templates take a while to load

    write_text(
        series.output / PAGE,
        movie(
            Path(series.source).name,
            series.to,
            rows,
            means.before / means.frames,
            means.after / means.frames,
        ),
    )


def _stamp(series: Series, stack: Stack, others: list[Stack]) -> dict[str, object]:
    """Files with their sizes and times, reference, settings and version: what the results depend on.

    The transforms of another run can be used where these are equal; the stacks of other channels are extra.
    """

    def known(one: Stack) -> list[list[object]]:
        return [[str(path), os.stat(path).st_size, os.stat(path).st_mtime_ns] for path in one.files]

    made = {
        "register": __version__,
        "files": known(stack),
        "to": series.to,
        "settings": asdict(series.settings),
        "others": hashes(series.settings),
    }
    return {"transforms": made, "also": [known(other) for other in others]}


def _stamp_of(folder: Path) -> dict[str, object]:
    path = folder / STAMP
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _table(rows: list[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(Row))
    writer.writerows(astuple(row) for row in rows)
    return text.getvalue()


def read_table(path: Path) -> list[Row]:
    """The rows of a ``series.csv``."""
    with open(path, newline="", encoding="utf-8") as file:
        return [
            Row(
                int(r["frame"]),
                r["verdict"],
                r["reasons"],
                float(r["similarity"]) if r["similarity"] else None,
                float(r["shift_x"]),
                float(r["shift_y"]),
                r["against"],
            )
            for r in csv.DictReader(file)
        ]
