"""A series of frames brought to one of them, to its mean, or along the one before: one stack out, one transform per frame."""

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import register
from register import affine, grey, motion, workers
from register.errors import FileError, RegisterError
from register.io.atomic import whole
from register.io.points import write_text
from register.io.stacks import Stack, append, open_stack
from register.resample import warp_pixels
from register.settings import Settings
from register.transform import Link, Transform

ANCHOR = 10
"""Frames after which a chain along the one before is tied to the reference again, so that its error cannot grow on."""
AVERAGED = 40
"""Frames, spread over the series, whose mean is the reference ``mean``, aligned to the middle one first."""
AHEAD = 4
"""Frames per worker that are under way at a time."""
TRANSFORMS, TABLE = "transforms", "series.csv"


@dataclass(frozen=True)
class Series:
    """What is asked: the frames, the reference (first, previous, mean, middle or a number), other channels, the folder, and the settings."""

    source: str
    to: str
    also: tuple[str, ...]
    output: Path
    settings: Settings


@dataclass(frozen=True)
class Row:
    """One frame's outcome: its verdict, similarity, shift in pixels and what it was aligned to."""

    frame: int
    verdict: str
    similarity: float | None
    shift_x: float
    shift_y: float
    against: str


def run(series: Series, *, count: int | None = None, redo: bool = False, tick: Callable[[Row], None] = lambda row: None) -> list[Row]:
    """Align every frame and write the aligned stack, those of the other channels, ``transforms/NNNNN.json`` and ``series.csv``.

    Transforms that an interrupted run of the same series left are taken over unless ``redo``. Memory does not grow with the number of frames. Raises
    ``RegisterError``.
    """
    stack = open_stack(series.source)
    others = [open_stack(name) for name in series.also]
    with ExitStack() as opened:
        for one in (stack, *others):
            opened.callback(one.close)
        return _run(series, stack, others, count, redo, tick)


def _run(series: Series, stack: Stack, others: list[Stack], count: int | None, redo: bool, tick: Callable[[Row], None]) -> list[Row]:
    """The same with the files open."""
    for name, other in zip(series.also, others, strict=True):
        if len(other) != len(stack) or other.shape[1:] != stack.shape[1:]:
            raise FileError(name, f"has {len(other)} frames of {other.shape[1:]}, the series {len(stack)} of {stack.shape[1:]}", "name the same frames")
    names = [series.output / f"{stem}.tif" for stem in ("aligned", *(f"aligned_{Path(name).stem.removesuffix('.ome')}" for name in series.also))]
    if len(set(names)) < len(names):
        raise RegisterError("two of the --also files have one name; their results would overwrite each other")
    folder = series.output / TRANSFORMS
    stamp = _stamp(series, stack)
    if names[0].exists() and not redo and _stamp_of(folder) == stamp:
        return read_table(series.output / TABLE)
    if _stamp_of(folder) != stamp or redo:
        for old in folder.glob("*.json"):
            old.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "series.json", stamp)
    rows = list[Row]()
    found = _transforms(series, stack, folder, count or min(workers.cores(), len(stack)))
    _write(names, [stack, *others], _noted(found, rows, tick), series.settings)
    write_text(series.output / TABLE, _table(rows))
    return rows


def _transforms(series: Series, stack: Stack, folder: Path, count: int) -> Iterator[tuple[Transform, str]]:
    """The transform from the reference to every frame, in order, and what it was found against."""
    number, reference = _reference(series, stack, count)
    along = series.to == "previous"
    before: Transform | None = None
    jobs = ((index, index - 1 if along and index % ANCHOR and index != number else None) for index in range(len(stack)))
    for _, against, transform in _each(stack, reference, number, series.settings, folder, jobs, count):
        if against is not None and before is not None:
            links = (*(before.chain or (Link(before),)), Link(transform))
            chained = Transform("chain", before.fixed, transform.moving, affine.compose(transform.matrix, before.matrix), chain=links)
            transform = replace(chained, quality=transform.quality | {"shift": _shift(chained)}, provenance=transform.provenance)
        before = transform
        yield transform, "reference" if against is None else f"frame {against}"


def _each(
    stack: Stack, reference: NDArray[Any], number: int | None, chosen: Settings, folder: Path, jobs: Iterator[tuple[int, int | None]], count: int
) -> Iterator[tuple[int, int | None, Transform]]:
    """Every job's own transform, in order: read from its file, or found in some process and written there."""
    if count == 1:
        _begin_here(stack, reference, chosen)
        for index, against in jobs:
            yield index, against, _known_or_found(folder, number, index, against)
        return
    context = get_context("spawn")
    threads, started = max(workers.cores() // count, 1), context.Value("i", 0)
    with ProcessPoolExecutor(count, context, initializer=_begin, initargs=(threads, started, stack, reference, chosen)) as pool:
        queue = []
        try:
            for index, against in jobs:
                queue.append((index, against, pool.submit(_known_or_found, folder, number, index, against)))
                if len(queue) >= AHEAD * count:
                    first, other, future = queue.pop(0)
                    yield first, other, future.result()
            for first, other, future in queue:
                yield first, other, future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_HERE: dict[str, Any] = {}
"""What a worker process keeps between frames: the stack, and the reference made ready."""


def _begin(threads: int, started: Any, stack: Stack, reference: NDArray[Any], chosen: Settings) -> None:
    workers.begin(threads, started)
    _begin_here(stack, reference, chosen)


def _begin_here(stack: Stack, reference: NDArray[Any], chosen: Settings) -> None:
    _HERE.update(stack=stack, chosen=chosen, reference=motion.prepare(torch.from_numpy(reference), chosen))


def _known_or_found(folder: Path, number: int | None, index: int, against: int | None) -> Transform:
    """The transform of one frame, from its file when it is there."""
    path = folder / f"{index:05d}.json"
    if path.exists():
        return Transform.load(path)
    stack, chosen, reference = _HERE["stack"], _HERE["chosen"], _HERE["reference"]
    try:
        if against is not None:
            reference = motion.prepare(_grey(stack, against, chosen), chosen)
        found = motion.identity(reference) if index == number else motion.follow(reference, _grey(stack, index, chosen))
    except RegisterError as error:
        found = motion.identity(reference, verdict="failed", why=str(error))
    found = replace(found, provenance={"register": register.__version__, "frame": index, "against": "reference" if against is None else against})
    found.save(path)
    return found


def _grey(stack: Stack, index: int, chosen: Settings) -> torch.Tensor:
    """What of a frame is compared (1, h, w)."""
    planes = torch.from_numpy(stack.frame(index).astype(np.float32))
    valid = torch.ones(1, *planes.shape[1:], dtype=torch.bool)
    return grey.choose(planes, valid, colour="rgb" if len(planes) == 3 and stack.dtype == np.uint8 else "grey", white=None, wanted=chosen.fixed_channel)(planes)


def _reference(series: Series, stack: Stack, count: int) -> tuple[int | None, NDArray[np.float32]]:
    """The number of the reference frame, None for the mean, and its grey (1, h, w). Raises ``RegisterError`` for a number that is not there."""
    named = {"first": 0, "previous": 0, "middle": len(stack) // 2, "mean": len(stack) // 2}
    if series.to not in named and not series.to.isdigit():
        raise RegisterError(f"--to {series.to!r}: first, previous, mean, middle or the number of a frame, counted from 0")
    number = named.get(series.to, int(series.to) if series.to.isdigit() else 0)
    if number >= len(stack):
        raise RegisterError(f"--to {number}: there are {len(stack)} frames, counted from 0")
    image = _grey(stack, number, series.settings).numpy()
    if series.to != "mean":
        return number, image
    chosen = sorted({round(k) for k in np.linspace(0, len(stack) - 1, min(AVERAGED, len(stack)))})
    ready = motion.prepare(torch.from_numpy(image), series.settings)
    total, weight = np.zeros_like(image, dtype=np.float64), np.zeros_like(image, dtype=np.float64)
    for index in chosen:
        moved = warp_pixels(_grey(stack, index, series.settings).numpy(), motion.follow(ready, _grey(stack, index, series.settings)), fill=float("nan"))
        shown = np.isfinite(moved)
        total += np.where(shown, moved, 0.0)
        weight += shown
    mean: NDArray[np.float32] = np.where(weight > 0, total / np.maximum(weight, 1), image).astype(np.float32)
    return None, mean


def _noted(found: Iterator[tuple[Transform, str]], rows: list[Row], tick: Callable[[Row], None]) -> Iterator[Transform]:
    """The transforms, a row kept of each."""
    for index, (transform, against) in enumerate(found):
        quality = transform.quality
        across, down = quality.get("shift", [0.0, 0.0])
        row = Row(index, quality["verdict"], quality.get("similarity_after"), across, down, against)
        rows.append(row)
        tick(row)
        yield transform


def _write(names: list[Path], stacks: list[Stack], transforms: Iterator[Transform], chosen: Settings) -> None:
    """Warp and write frame by frame, each stack into its own file, all whole or none; no more than a frame of each is held."""
    with ExitStack() as opened:
        beside = [opened.enter_context(whole(name)) for name in names]
        for index, transform in enumerate(transforms):
            for path, stack in zip(beside, stacks, strict=True):
                warped = warp_pixels(stack.frame(index), transform, interpolation=chosen.interpolation, fill=_fill(chosen, stack.dtype))
                append(path, warped, first=index == 0, compression=chosen.compression)


def _fill(chosen: Settings, dtype: np.dtype[Any]) -> float | None:
    return None if chosen.fill == "auto" else float(chosen.fill)


def _shift(transform: Transform) -> list[float]:
    middle = torch.tensor([[(transform.fixed.width - 1) / 2, (transform.fixed.height - 1) / 2]], dtype=torch.float64)
    return [round(v, 4) for v in (transform.map(middle) - middle)[0].tolist()]


def _stamp(series: Series, stack: Stack) -> str:
    """What transforms were made from and how: files, their sizes and times, the reference, the settings and the version."""
    files = [[str(path), os.stat(path).st_size, os.stat(path).st_mtime_ns] for path in stack.files]
    return json.dumps({"register": register.__version__, "files": files, "to": series.to, "settings": asdict(series.settings)}, sort_keys=True)


def _stamp_of(folder: Path) -> str:
    path = folder / "series.json"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _table(rows: list[Row]) -> str:
    lines = ["frame,verdict,similarity,shift_x,shift_y,against"]
    lines += [f"{r.frame},{r.verdict},{'' if r.similarity is None else r.similarity},{r.shift_x},{r.shift_y},{r.against}" for r in rows]
    return "\n".join(lines) + "\n"


def read_table(path: Path) -> list[Row]:
    """The rows of a ``series.csv``."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        frame, called, similarity, x, y, against = line.split(",")
        found.append(Row(int(frame), called, float(similarity) if similarity else None, float(x), float(y), against))
    return found
