"""``register movie``: frames aligned to their mean, to one frame, to an image, or each to the one before."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain as concatenated
from pathlib import Path

from register.compute import device
from register.engine.movie.options import refuse_meaningless
from register.errors import FileError, RegisterError
from register.files.atomic import refuse_inputs, write_text
from register.io.movies.adapted import offset_of_lines, shortened, straightened
from register.io.movies.open import open_stack
from register.io.movies.stack import Stack
from register.io.movies.write import format_of
from register.transforms import minority
from register.transforms.canvas import Canvas
from register.transforms.movie import FrameTransform, MovieTransforms
from register.workflows.movie import bad_frames, chain, output, reference, tasks, trend
from register.workflows.movie.canvas import union
from register.workflows.movie.checks import check_channels
from register.workflows.movie.job import Movie
from register.workflows.movie.pool import AHEAD, in_order, workers_of
from register.workflows.movie.progress_files import Unfinished, stamp_of
from register.workflows.movie.table import Row, read_table, row_of, text_of
from register.workflows.movie.tasks import CHUNK, Channel, Task, Template

TRANSFORMS, TABLE = "transforms.npz", "series.csv"


def run(
    movie: Movie,
    *,
    count: int | None = None,
    redo: bool = False,
    tick: Callable[[Row], None] = lambda row: None,
    given: Stack | None = None,
) -> list[Row]:
    """Align every frame; write the aligned frames, their transforms, ``series.csv`` and ``index.html``.

    The chunks of frames of an interrupted run of the same movie are used again unless ``redo``. Memory does
    not grow with the pixels of the movie, only with its transforms. ``given`` are frames to be used in place
    of those of the files. Raises ``RegisterError``.
    """
    refuse_meaningless(movie.settings)
    with ExitStack() as opened:
        channels = _channels(movie, given)
        for one in channels:
            opened.callback(one.stack.close)
        count = count or min(device.cores(), -(-len(channels[0].stack) // CHUNK))
        opened.enter_context(
            device.using_threads(1 if count > 1 else movie.settings.threads or 1)
        )  # the workers use the others, and a frame is too small for more than one
        return _run(movie, channels, count, redo, tick)


def target_of(movie: Movie) -> Path:
    """The file of the aligned frames."""
    return format_of(movie.format, movie.settings.compression)[0].target(movie.output, "aligned")


def _channels(movie: Movie, given: Stack | None) -> tuple[Channel, ...]:
    """The movie and its other channels. Raises ``RegisterError`` where they do not fit together."""
    layout = replace(movie.layout, allow_truncated=movie.settings.allow_truncated)
    stack = given or shortened(open_stack(movie.sources, layout), movie.first)
    offset = offset_of_lines(stack, movie.bidirectional)
    target = format_of(movie.format, movie.settings.compression)[0].target
    stack = straightened(replace(stack, step=stack.step or movie.interval), offset)
    channels = [Channel(stack, target(movie.output, "aligned"), movie.settings.interpolation)]
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
        other = replace(other, step=other.step or movie.interval)
        channels.append(Channel(other, target(movie.output, f"aligned_{stem}"), how))
    if len({one.target for one in channels}) < len(channels):
        raise RegisterError("two --also files have the same name; their results would overwrite each other")
    check_channels(channels, movie.settings, movie.format)
    return tuple(channels)


def _run(
    movie: Movie, channels: tuple[Channel, ...], count: int, redo: bool, tick: Callable[[Row], None]
) -> list[Row]:
    """``run`` with the stacks open."""
    table, unfinished = movie.output / TABLE, Unfinished(movie.output)
    stamp = stamp_of(movie, [(one.stack.files, one.interpolation) for one in channels])
    targets = [*(one.target for one in channels), table, movie.output / TRANSFORMS]
    read = [file for one in channels for file in one.stack.files]
    read += [Path(movie.to)] * Path(movie.to).is_file()
    for result in (*targets, *(movie.output / name for name in output.NAMES)):
        refuse_inputs(result, *read)
    if not redo and unfinished.is_finished(stamp) and all(path.exists() for path in targets):
        return read_table(table)
    with workers_of(count, movie.settings.threads) as workers:
        asked, pool = _task(movie, channels), workers.pool
        unfinished.begin(stamp, redo)
        table.unlink(missing_ok=True)
        workers.give(asked)
        found = list[FrameTransform]()
        for one in _aligned(asked, pool, movie.to == "previous", count, unfinished):
            tick(row_of(len(found), one))
            found.append(one)
        found = minority.doubted(found) if movie.to == "mean" else found
        found = bad_frames.filled(found, movie.bad_frames)
        found = trend.kept(found) if movie.keep_trend else found
        (height, width) = asked.stack.shape[1:]
        canvas = Canvas(0, 0, width, height)
        if movie.settings.canvas == "union":
            canvas = union(found, (height, width))
        place = (canvas.left, canvas.top, canvas.width, canvas.height)
        MovieTransforms(movie.settings.model, tuple(found), place).save(movie.output / TRANSFORMS)
        written = output.write_frames(asked, pool, found, movie, count, canvas)
    rows = [row_of(index, one) for index, one in enumerate(found)]
    output.write_rest(movie, asked, found, rows, written)
    unfinished.end(stamp)
    write_text(table, text_of(rows))
    return rows


def _task(movie: Movie, channels: tuple[Channel, ...]) -> Task:
    """The task of the workers, with the reference. Raises ``RegisterError``."""
    made = reference.build(channels[0].stack, movie.to, movie.settings)
    number = reference.number_of(channels[0].stack, movie.to, movie.settings)
    template = Template(made.image, made.variance, made.sigma)
    return Task(channels, movie.settings, template, number, movie.format)


def _aligned(
    asked: Task, pool: Executor, chained: bool, count: int, unfinished: Unfinished
) -> Iterator[FrameTransform]:
    """The transforms of all frames in order; chunks are saved when they are complete."""
    frames, ahead = len(asked.stack), AHEAD * count if count > 1 else 1
    known = unfinished.chunks(asked.settings.model)
    numbers = range(-(-frames // CHUNK))
    if chained and asked.number is not None:
        before = list(concatenated.from_iterable(known))
        links = chain.chained(
            frames,
            asked.number,
            lambda index, against: pool.submit(tasks.link, index, against),
            ahead * 4 if count > 1 else 1,
            lambda index: before[index] if index < len(before) else None,
        )
        chunks: Iterator[list[FrameTransform]] = (
            [next(links) for _ in asked.chunk(number)] for number in numbers
        )
    else:
        rest = in_order(
            lambda number: pool.submit(tasks.align_chunk, number), list(numbers)[len(known) :], ahead
        )
        chunks = concatenated(known, rest)
    for number, chunk in enumerate(chunks):
        if number >= len(known):
            unfinished.save(number, asked.settings.model, chunk)
        yield from chunk
