"""``register align``: one pair of images, from files to files."""

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from register import api
from register.compute import device
from register.compute.clock import Clock, date_is_given
from register.compute.plan import ComputePlan
from register.engine.fit.parts import Box
from register.engine.pair import Alignment, Event, Listener
from register.engine.quality.landmarks import landmark_errors
from register.errors import AlignmentError, FileError, RegisterError
from register.files.atomic import mark_unfinished, remove, write_bytes, write_text
from register.files.hashes import sha256
from register.images.pyramid import Level
from register.images.shared_channels import common
from register.io.images.colours import colour_picture
from register.io.images.masks import read_mask, read_split_mask
from register.io.images.model import Image
from register.io.images.open import write_image
from register.io.images.working import Validity, working_level, working_part
from register.io.points.landmarks import LandmarkFiles, Landmarks
from register.kernels import dispatch
from register.report.overlay import overlay
from register.report.panels import Scene
from register.report.pictures import Overlays
from register.settings import Settings, working_size
from register.transforms.canvas import Canvas
from register.transforms.frame import Frame
from register.transforms.quality import CanvasPlace, LandmarkSummary, Verdict
from register.transforms.resample import ValidMask, check_fill
from register.transforms.transform import Transform
from register.workflows import differences
from register.workflows.aligned_image import OutputStyle, aligned_image, write_aligned
from register.workflows.images import open_images
from register.workflows.job import RESULTS, Job, output_files, refuse_overwrite
from register.workflows.settings_files import files_of, hashes

SHARE_OF_ESTIMATE = 0.8
"""Fraction of the progress bar that is filled before the aligned image is written."""


MOST_PREPARED = 4
"""Images whose levels a process keeps for the links of a set."""
_PREPARED: dict[Hashable, tuple[Level, str]] = {}


@dataclass(frozen=True)
class Result:
    """The outcome of a job: the alignment, the files by role, the seconds in all, notes on the images."""

    alignment: Alignment
    files: Mapping[str, Path | str]
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """One image of a pair: its file opened, its valid pixels, and the channel that is compared."""

    path: Path
    image: Image
    validity: Validity
    channel: str | None
    shared: tuple[str, ...] = ()
    """Names of channels that the other image has too."""

    def level(self, size: int) -> tuple[Level, str]:
        """The grey image that is aligned, its longest side at most twice ``size`` pixels, and its name."""
        return working_level(self.image, self.validity, size, channel=self.channel)

    def part(self, size: int, box: Box) -> Level:
        """The same of a part of the image."""
        rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
        return working_part(self.image, self.validity, size, rows, columns, channel=self.channel)


@dataclass(frozen=True)
class Pair:
    """Both images of a job and their grey levels, read."""

    fixed: Source
    moving: Source
    fixed_level: Level
    moving_level: Level
    fixed_grey: str
    moving_grey: str

    @classmethod
    def read(cls, job: Job) -> "Pair":
        """Open both images and read their grey levels. Raises ``FileError``."""
        fixed, moving = open_pair(job)
        size, chosen = working_size(job.settings), job.settings
        if job.brief:
            parts = [(chosen.series, getattr(chosen, f"{kind}_level"), getattr(chosen, f"{kind}_plane"))
                     for kind in ("fixed", "moving")]  # fmt: skip
            (fixed_level, fixed_grey), (moving_level, moving_grey) = (
                prepared(source, size, part) for source, part in zip((fixed, moving), parts, strict=True)
            )
        else:
            (fixed_level, fixed_grey), (moving_level, moving_grey) = fixed.level(size), moving.level(size)
        return cls(fixed, moving, fixed_level, moving_level, fixed_grey, moving_grey)


def prepared(source: Source, size: int, part: Hashable) -> tuple[Level, str]:
    """The level of a source, of a ``part`` of its file, kept in this process for other links of the image.

    What is computed of a level is kept with it. Images with masks are read again, and folders, in which
    changes are not recognised.
    """
    if source.validity.mask is not None or not source.path.is_file():
        return source.level(size)
    state = source.path.stat()
    place = str(source.path.resolve()), state.st_mtime_ns, state.st_size
    key = (*place, part, size, source.channel, source.validity.nodata)
    if key not in _PREPARED:
        while len(_PREPARED) >= MOST_PREPARED:
            _PREPARED.pop(next(iter(_PREPARED)))
        _PREPARED[key] = source.level(size)
    return _PREPARED[key]


def run(job: Job, listener: Listener = lambda event: None) -> Result:
    """Align a pair and write ``aligned.*``, ``overlay.png``, ``report.html`` and, last, ``transform.json``.

    A brief job writes less. Every file is written completely or not at all. Raises ``RegisterError``.
    """
    with device.using_threads(job.settings.threads):
        return _run(job, listener)


def _run(job: Job, listener: Listener) -> Result:
    """``run`` with the threads of the settings."""
    start = time.perf_counter()
    refuse_overwrite(job)
    landmarks = read_landmarks(job.settings)
    listener(Event("read", "", 0.0, None))
    clock, plan = Clock(), ComputePlan.of(job.settings.device, job.settings.threads)
    with clock("read"), device.run_in_background(lambda: dispatch.warm_up(plan.device), plan.device):
        images = Pair.read(job)
    check_fill(job.settings.fill, images.moving.image.dtype)
    alignment = _align(job, images, plan, listener)
    canvas = Canvas.union(alignment.transform) if job.settings.canvas == "union" else None
    written = _described(alignment.transform, job, images, canvas)
    if landmarks:
        summary = landmark_summary(alignment.transform, landmarks, job.settings)
        written = replace(written, quality=replace(written.quality, landmarks=summary))
    files = output_files(job, images.moving.image)
    if job.brief and written.quality.verdict == Verdict.OK:
        files = {"transform": files["transform"]}
    with mark_unfinished(job.output):
        if "aligned" in files:
            with clock("warp and write"):
                _write_images(files, images, alignment.transform, canvas, job.settings, listener)
                levels, side = (images.fixed_level, images.moving_level), working_size(job.settings)
                differences.write(files, *levels, written, side)
        listener(Event("report", "", 1.0, None))
        page = None
        if "overlay" in files:
            with clock("pictures"):
                colours = colour_picture(images.fixed.image), colour_picture(images.moving.image)
                scene = Scene.of(images.fixed_level, images.moving_level, written, colours)
                sheet, page = _pictures(scene, report=job.settings.report)
                write_bytes(files["overlay"], sheet)
        if not date_is_given():
            seconds = {"read": clock.seconds["read"]} | alignment.seconds | clock.seconds
            seconds["total"] = round(time.perf_counter() - start, 3)
            written = replace(written, provenance=replace(written.provenance, seconds=seconds))
        if page:
            write_text(files["report"], page(written))
        _remove_replaced(job, files)
        written.save(files["transform"])
    listener(Event("done", "", 1.0, None))
    notes = images.fixed.image.notes + images.moving.image.notes
    return Result(replace(alignment, transform=written), files, time.perf_counter() - start, notes)


def open_pair(job: Job) -> tuple[Source, Source]:
    """Both images with their masks. Raises ``FileError`` naming the file that cannot be used."""
    chosen, images = job.settings, open_images(job)
    fixed = _source(job.fixed, images.fixed, chosen.fixed_mask, chosen.fixed_channel, chosen.nodata)
    moving = _source(job.moving, images.moving, chosen.moving_mask, chosen.moving_channel, chosen.nodata)
    return _in_common(fixed, moving)


def _in_common(fixed: Source, moving: Source) -> tuple[Source, Source]:
    """Both images with the channel that their names have in common, unless a channel was chosen."""
    if "rgb" in (fixed.image.colour, moving.image.colour):
        return fixed, moving
    found = common(fixed.image.channel_names, moving.image.channel_names)
    asked = fixed.channel, moving.channel
    one, other = (found.fixed, found.moving) if asked == (None, None) else asked
    fixed = replace(fixed, channel=one, shared=found.shared)
    return fixed, replace(moving, channel=other, shared=found.shared)


def _source(path: Path, image: Image, mask: str | None, channel: str | None, nodata: float | None) -> Source:
    return Source(
        path, image, Validity(image, nodata, read_mask(mask, image.size) if mask else None), channel
    )


def _align(job: Job, images: Pair, plan: ComputePlan, listener: Listener) -> Alignment:
    """The alignment of two images; the message of an error names the files."""
    fixed, moving = images.fixed.image, images.moving.image
    mask = job.settings.split_mask
    labels = read_split_mask(mask, fixed.size) if mask and mask != "auto" else None
    size = working_size(job.settings)
    try:
        return api.align_levels(
            images.fixed_level,
            images.moving_level,
            (fixed.size, moving.size),
            job.settings,
            plan=plan,
            pixels=(fixed.pixel_size, moving.pixel_size),
            shared=job.brief,
            labels=labels,
            parts=(partial(images.fixed.part, size), partial(images.moving.part, size)),
            listener=lambda event: listener(replace(event, done=event.done * SHARE_OF_ESTIMATE)),
        )
    except AlignmentError as error:
        compared = _compared(images)
        if error.image is None:
            raise AlignmentError(f"{job.moving} on {job.fixed}: {error}{compared}") from None
        path = job.fixed if error.image == "fixed" else job.moving
        raise FileError(path, f"{error.message}{compared}") from None


def _compared(images: Pair) -> str:
    """The end of a message that says which channels were compared; empty for images of one channel."""
    if images.fixed.image.channels == images.moving.image.channels == 1:
        return ""
    shared = ", ".join(images.fixed.shared) or "none"
    return f" (compared: {images.fixed_grey} with {images.moving_grey}; names of both: {shared})"


def _described(transform: Transform, job: Job, images: Pair, canvas: Canvas | None) -> Transform:
    """The transform with its images' files and grey images, its canvas, and the files of its settings."""
    quality = replace(
        transform.quality,
        fixed_grey=images.fixed_grey,
        moving_grey=images.moving_grey,
        shared_channels=images.fixed.shared,
    )
    if quality.held:
        quality = replace(quality, held=replace(quality.held, files=job.settings.landmarks_hold))
    if canvas:
        place = CanvasPlace(origin=(canvas.left, canvas.top), size=(canvas.width, canvas.height))
        quality = replace(quality, canvas=place)
    asked = asdict(job.asked) if job.asked else transform.provenance.settings
    provenance = replace(transform.provenance, settings=asked, files=hashes(job.settings))
    fixed_name, moving_name = job.names or (str(job.fixed), str(job.moving))
    return replace(
        transform,
        fixed=_frame(images.fixed, fixed_name),
        moving=_frame(images.moving, moving_name),
        quality=quality,
        provenance=provenance,
    )


def _frame(source: Source, name: str) -> Frame:
    height, width = source.image.size
    return Frame(width, height, source.image.pixel_size, name, sha256(source.path))


def _pictures(scene: Scene, *, report: bool) -> tuple[bytes, Callable[[Transform], str] | None]:
    """The overlay as PNG, and a function that makes the report of the final transform, if it is wanted.

    The pictures are drawn by several threads.
    """
    if not report:
        entire = scene.entire()
        return overlay(entire, Overlays.of(entire), scene.transform), None
    with device.worker_threads() as pool:
        view = pool.submit(scene.entire)
        from register.report.page import compared, details, page  # slow; imported while the view is drawn

        charts = pool.submit(details, scene)
        drawn = Overlays.of(entire := view.result())
        sheet = pool.submit(overlay, entire, drawn, scene.transform)
        pictures = compared(scene, entire, drawn)
        return sheet.result(), partial(page, compared=pictures, details=charts.result())


def _write_images(
    files: dict[str, Path],
    images: Pair,
    transform: Transform,
    canvas: Canvas | None,
    chosen: Settings,
    listener: Listener,
) -> None:
    """Resample and write the aligned image, and the mask of its valid pixels where that is wanted."""
    moving, style = images.moving, OutputStyle.of(chosen)
    image = aligned_image(moving.image, images.fixed.image, transform, style, canvas)

    def tick(share: float) -> None:
        done = SHARE_OF_ESTIMATE + (1 - SHARE_OF_ESTIMATE) * share
        listener(Event("write", "", done, None))

    write_aligned(files["aligned"], image, style, tick=tick)
    if "valid" in files:
        valid = None if moving.validity.everywhere else moving.validity.pixels()
        mask = ValidMask(transform, valid, canvas)
        write_image(files["valid"], Image(mask, pixel_size=image.pixel_size, geotags=image.geotags))


def _remove_replaced(job: Job, files: dict[str, Path]) -> None:
    """Remove results of an earlier alignment that this one does not write, except files that it has read."""
    inputs = {Path(file).resolve() for named in files_of(job.settings).values() for file in named}
    for old in (job.output / name for name in RESULTS):
        if old not in files.values() and old.resolve() not in inputs:
            remove(old)


def read_landmarks(chosen: Settings) -> Landmarks | None:
    """The points of ``landmarks``, or of the landmarks that the alignment starts from; None without either.

    Raises ``RegisterError`` for files that cannot be read, or when ``landmarks`` does not name two.
    """
    found = LandmarkFiles.parse(chosen.landmarks or chosen.init)
    if found is None and chosen.landmarks:
        raise RegisterError(f"--landmarks {chosen.landmarks}: two files are needed, FIXED.csv,MOVING.csv")
    return found.read() if found else None


def landmark_summary(transform: Transform, points: Landmarks, chosen: Settings) -> LandmarkSummary:
    """The landmark errors of a transform, with a note whether the alignment used the landmarks."""
    note = "The alignment did not use them." if chosen.landmarks else "The alignment started from them."
    summary = landmark_errors(transform, *points).summary()
    return replace(summary, files=chosen.landmarks or chosen.init, note=note)
