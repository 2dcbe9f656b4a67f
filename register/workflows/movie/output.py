"""What a movie leaves behind: aligned frames, reference, bad frames, the quality of the session, a page."""

import json
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from register.engine.movie.session import Session
from register.files.atomic import atomic_write, write_text
from register.geometry.arrays import Float64
from register.io.images.model import Image
from register.io.images.open import write_image
from register.io.movies.about import About
from register.io.movies.adapted import on_canvas
from register.io.movies.write import format_of
from register.transforms.canvas import Canvas
from register.transforms.movie import FrameTransform
from register.workflows.movie import samples, tasks
from register.workflows.movie.job import Movie
from register.workflows.movie.pool import AHEAD, in_order
from register.workflows.movie.samples import Sample
from register.workflows.movie.table import Row
from register.workflows.movie.tasks import CHUNK, Task

PAGE, BAD, REFERENCE, QUALITY = "index.html", "bad_frames.npy", "reference.tif", "quality.json"
NAMES = (PAGE, BAD, REFERENCE, QUALITY)


@dataclass(frozen=True, eq=False)
class Written:
    """The means (h, w) of the good frames before and after alignment, None without any; small copies of some
    frames, and the pixels of the movie per pixel of a copy."""

    means: tuple[Float64, Float64] | None
    samples: list[Sample]
    step: int


def write_frames(
    asked: Task, pool: Executor, found: list[FrameTransform], movie: Movie, count: int, canvas: Canvas
) -> Written:
    """Resample and write all frames; all files are completed or none."""
    size = (canvas.height, canvas.width)
    before, after, good, copies = np.zeros(size), np.zeros(size), 0, list[Sample]()
    kept = samples.chosen(found)

    def submit(number: int) -> "Future[tasks.Written]":
        chunk = asked.chunk(number)
        some = found[chunk.start : chunk.stop]
        mine = frozenset(kept.intersection(chunk))
        return pool.submit(tasks.write_chunk, chunk.start, some, movie.bad_frames, canvas, mine)

    chosen, compression = format_of(movie.format, asked.settings.compression)
    shifts, bad = np.array([one.map.shift for one in found]), np.array([one.bad for one in found])
    image = asked.template.image.numpy()
    with ExitStack() as opened:
        add = [
            opened.enter_context(
                chosen.writer(one.target, About(on_canvas(one.stack, size), compression, shifts, bad, image))
            )
            for one in asked.channels
        ]
        chunks = range(-(-len(found) // CHUNK))
        for written in in_order(submit, chunks, AHEAD * count if count > 1 else 1):
            for put, pages in zip(add, written.pages, strict=True):
                for page in pages:
                    put(page)
            before, after, good = before + written.before, after + written.after, good + written.good
            copies += written.samples
    return Written((before / good, after / good) if good else None, copies, samples.step_of(size))


def write_rest(
    movie: Movie, asked: Task, found: Sequence[FrameTransform], rows: list[Row], written: Written
) -> None:
    """Write the reference, which frames are bad, the quality of the session, and the page."""
    image = asked.template.image.numpy()[None]
    write_image(
        movie.output / REFERENCE,
        Image(image, kind="other", path=REFERENCE, pixel_size=asked.stack.pixel_size),
    )
    with atomic_write(movie.output / BAD) as beside, open(beside, "wb") as file:
        np.save(file, np.array([row.bad for row in rows]))
    if written.means is None:
        return
    session = samples.measured(found, written.means, written.samples, written.step)
    write_text(movie.output / QUALITY, json.dumps(_figures(rows, session), indent=1))
    if not movie.settings.report:
        return
    from register.report.movie import Pictures  # templates take a while to load
    from register.report.movie import movie as page

    copies = {one.frame: (one.before, one.after) for one in written.samples}
    good = [copies[n] for n in sorted(copies) if not found[n].bad]
    worst = [(n, *copies[n]) for n in samples.worst_of(found) if n in copies]
    pictures = Pictures(*written.means, worst, good)
    write_text(movie.output / PAGE, page(Path(movie.sources[0]).name, movie.to, rows, pictures, session))


def _figures(rows: list[Row], session: Session) -> dict[str, object]:
    """The quality of a session as plain values."""
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in ("ok", "suspect", "failed")}
    return {"frames": len(rows), "verdicts": counts, **asdict(session)}
