"""``register movie``: frames aligned to one frame, to their mean, to an image, or each to the one before."""

import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register._version import __version__
from register.compute import device
from register.errors import FileError, RegisterError
from register.files.atomic import atomic_write, refuse_inputs, write_text
from register.io.movies.adapted import offset_of_lines, shortened, straightened
from register.io.movies.open import open_stack
from register.io.movies.stack import Stack
from register.io.movies.tiff_write import stack_writer
from register.settings import Settings
from register.transforms.resample import default_fill, warp_pixels
from register.transforms.transform import Transform
from register.workflows.movie import bad_frames, frames, trend
from register.workflows.movie.job import Movie, refuse_meaningless
from register.workflows.movie.table import Row, read_table, row_of, text_of
from register.workflows.settings_files import hashes

TRANSFORMS, STAMP, TABLE, PAGE, BAD = (
    "transforms",
    "series.json",
    "series.csv",
    "index.html",
    "bad_frames.npy",
)


@dataclass(frozen=True)
class Channel:
    """Frames that are resampled, the file they go to, and their interpolation."""

    stack: Stack
    target: Path
    interpolation: str


def run(
    movie: Movie,
    *,
    count: int | None = None,
    redo: bool = False,
    tick: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """Align every frame and write the aligned stacks, the transforms, ``series.csv`` and ``index.html``.

    Transforms (``transforms/NNNNN.json``) of an interrupted run of the same movie are used again unless
    ``redo``. Memory does not grow with the number of frames. Raises ``RegisterError``.
    """
    refuse_meaningless(movie.settings)
    with ExitStack() as opened:
        channels = _channels(movie)
        for one in channels:
            opened.callback(one.stack.close)
        count = count or min(device.cores(), len(channels[0].stack))
        opened.enter_context(
            device.using_threads(1 if count > 1 else movie.settings.threads)
        )  # the workers use the others
        return _run(movie, channels, count, redo, tick)


def _channels(movie: Movie) -> list[Channel]:
    """The movie and its other channels. Raises ``RegisterError`` where they do not fit together."""
    layout = replace(movie.layout, allow_truncated=movie.settings.allow_truncated)
    stack = shortened(open_stack(movie.sources, layout), movie.first)
    offset = offset_of_lines(stack, movie.bidirectional)
    stack = straightened(stack, offset)
    channels = [Channel(stack, movie.output / "aligned.tif", movie.settings.interpolation)]
    for name in (*movie.also, *movie.also_labels):
        other = straightened(shortened(open_stack(name, layout), movie.first), offset)
        if len(other) != len(stack) or other.shape[1:] != stack.shape[1:]:
            raise FileError(
                name,
                f"has {len(other)} frames of {other.shape[1:]}, the movie {len(stack)} of {stack.shape[1:]}",
                "name the same frames",
            )
        stem = Path(name).stem.removesuffix(".ome")
        how = "nearest" if name in movie.also_labels else movie.settings.interpolation
        channels.append(Channel(other, movie.output / f"aligned_{stem}.tif", how))
    if len({one.target for one in channels}) < len(channels):
        raise RegisterError("two --also files have the same name; their results would overwrite each other")
    return channels


def _run(
    movie: Movie, channels: list[Channel], count: int, redo: bool, tick: Callable[[Row], None]
) -> list[Row]:
    """``run`` with the stacks open."""
    stack, folder, table = channels[0].stack, movie.output / TRANSFORMS, movie.output / TABLE
    read = [file for one in channels for file in one.stack.files]
    for result in (*(one.target for one in channels), table, movie.output / PAGE, movie.output / BAD):
        refuse_inputs(result, *read)
    stamp = _stamp(movie, channels)
    known = {} if redo else _stamp_of(folder)
    if known == stamp and all(name.exists() for name in (*(one.target for one in channels), table)):
        return read_table(table)
    asked = frames.task(stack, movie.to, movie.settings, folder)
    if known.get("transforms") != stamp["transforms"]:
        for old in folder.glob("*.json"):
            old.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    table.unlink(missing_ok=True)  # its presence marks a complete series
    write_text(folder / STAMP, json.dumps(stamp, indent=1))
    found = list[Transform]()
    for index, transform in enumerate(frames.transforms(asked, count)):
        found.append(transform)
        tick(row_of(index, transform))
    filled = bad_frames.filled(found, movie.bad_frames)
    filled = trend.kept(filled) if movie.keep_trend else filled
    for index, (one, other) in enumerate(zip(found, filled, strict=True)):
        if one is not other:
            other.save(asked.path(index))
    means = _write(channels, filled, movie)
    rows = [row_of(index, transform) for index, transform in enumerate(filled)]
    with atomic_write(movie.output / BAD) as beside, open(beside, "wb") as file:
        np.save(file, np.array([row.bad for row in rows]))
    if movie.settings.report:
        draw(movie, rows, means)
    write_text(table, text_of(rows))
    return rows


class Means:
    """The mean over a movie of the good frames' first channel, before and after the alignment."""

    def __init__(self) -> None:
        self.before: NDArray[np.float64] = np.zeros(())
        self.after: NDArray[np.float64] = np.zeros(())
        self.frames = 0

    def add(self, before: NDArray[Any], after: NDArray[Any]) -> None:
        """A frame (h, w) before and after."""
        self.before = self.before + np.nan_to_num(before.astype(np.float64))
        self.after = self.after + np.nan_to_num(after.astype(np.float64))
        self.frames += 1


def _write(channels: list[Channel], transforms: list[Transform], movie: Movie) -> Means:
    """Resample and write frame by frame, each stack into its own file; all files are completed or none."""
    chosen, means = movie.settings, Means()
    with ExitStack() as opened:
        add = [
            opened.enter_context(stack_writer(one.target, one.stack, chosen.compression)) for one in channels
        ]
        for index, transform in enumerate(transforms):
            bad = bad_frames.is_bad(transform)
            for number, one in enumerate(channels):
                fill = _fill(chosen, one.stack)
                pixels = one.stack.frame(index)
                if bad and movie.bad_frames == "blank":
                    empty = default_fill(pixels.dtype) if fill is None else fill
                    warped = np.full_like(pixels, empty)
                else:
                    warped = warp_pixels(pixels, transform, interpolation=one.interpolation, fill=fill)
                add[number](warped)
                if number == 0 and not bad:
                    means.add(pixels[0], warped[0])
    return means


def _fill(chosen: Settings, stack: Stack) -> float | None:
    return stack.nodata if chosen.fill == "auto" else float(chosen.fill)


def draw(movie: Movie, rows: list[Row], means: Means) -> None:
    """Draw ``index.html``: the drift, the frames that failed, and the means before and after."""
    from register.report.movie import movie as page  # templates take a while to load

    count = max(means.frames, 1)
    empty = np.zeros((1, 1)) if not means.frames else 0.0
    text = page(
        Path(movie.sources[0]).name, movie.to, rows, means.before / count + empty, means.after / count + empty
    )
    write_text(movie.output / PAGE, text)


def _stamp(movie: Movie, channels: list[Channel]) -> dict[str, object]:
    """Files with their sizes and times, reference, settings and version: what the results depend on.

    The transforms of another run can be used where these are equal; the stacks of other channels are extra.
    """

    def known(one: Stack) -> list[list[object]]:
        return [[str(path), os.stat(path).st_size, os.stat(path).st_mtime_ns] for path in one.files]

    made = {
        "register": __version__,
        "files": known(channels[0].stack),
        "to": movie.to,
        "settings": asdict(movie.settings),
        "others": hashes(movie.settings),
        "layout": asdict(movie.layout),
        "bidirectional": movie.bidirectional,
        "first": movie.first,
    }
    other = [[one.interpolation, known(one.stack)] for one in channels[1:]]
    return {"transforms": made, "also": other, "bad_frames": movie.bad_frames, "trend": movie.keep_trend}


def _stamp_of(folder: Path) -> dict[str, object]:
    path = folder / STAMP
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
