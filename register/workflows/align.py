"""A job is paths plus settings: one pair from files to files."""

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from register import api
from register.compute import device
from register.engine import pair
from register.engine.pair import Alignment, Event, Listener
from register.engine.quality import landmarks
from register.errors import AlignmentError, FileError, RegisterError
from register.files.atomic import is_unfinished, mark_unfinished, write_bytes, write_text
from register.files.hashes import sha256
from register.images.pyramid import Level
from register.io.images.masks import read_mask
from register.io.images.model import Image, Selection
from register.io.images.open import aligned_name, open_image, write_image
from register.io.images.working import Validity, working_level
from register.io.points.open import read_points
from register.kernels import dispatch
from register.report.overlay import overlay
from register.report.panels import Scene
from register.settings import PRESETS, Settings
from register.transforms.frame import Frame
from register.transforms.quality import CanvasPlace, LandmarkSummary
from register.transforms.resample import Canvas, ValidMask, check_dtype
from register.transforms.transform import Transform
from register.workflows.aligned_image import OutputStyle, aligned_image, write_aligned

RESULTS = (
    "aligned.tif",
    "aligned.ome.tif",
    "aligned.png",
    "transform.json",
    "overlay.png",
    "valid.tif",
    "report.html",
)
BASE_MEMORY, PER_WORKING_PIXEL = 700_000_000, 110
"""Bytes that PyTorch, caches and buffers take, and bytes per pixel of a working copy; measured, see benchmarks/RESULTS.md."""


ESTIMATE = 0.8
"""Share of the work, as the progress bar shows it, that comes before the aligned image is written."""


@dataclass(frozen=True)
class Job:
    """One pair: the files of the fixed and the moving image, the folder for the results, and the settings.

    Where files were copied from elsewhere, ``names`` are the addresses of the images, and ``asked`` the settings with the addresses of the others.
    """

    fixed: Path
    moving: Path
    output: Path
    settings: Settings
    overwrite: bool = False
    names: tuple[str, str] | None = None
    asked: Settings | None = None


@dataclass(frozen=True)
class Result:
    """What a job has done: the alignment, the files it wrote by their role, and the whole time in seconds."""

    alignment: Alignment
    files: dict[str, Path]
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What a job would do: sizes ``(width, height)``, working size, device, files and roughly the memory in bytes."""

    fixed: tuple[int, int]
    moving: tuple[int, int]
    moving_dtype: str
    working: tuple[int, int]
    device: str
    memory: int
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Source:
    """One image of a pair: the file opened, its pixels still in it, where it counts, and what of it is compared."""

    path: Path
    image: Image
    validity: Validity
    channel: str | None

    def level(self, size: int) -> tuple[Level, str]:
        """The grey that is aligned, its longest side at most twice ``size`` pixels, and its name."""
        return working_level(self.image, self.validity, size, channel=self.channel)


def run(job: Job, listener: Listener = lambda event: None) -> Result:
    """Align the pair and write ``aligned.*``, ``overlay.png``, ``report.html`` and last ``transform.json``, each whole or not at all."""
    with device.using_threads(job.settings.threads):
        return _run(job, listener)


def _run(job: Job, listener: Listener) -> Result:
    """The same with the threads that were asked for."""
    begin = time.perf_counter()
    refuse_overwrite(job)
    landmarks = read_landmarks(job.settings)
    listener(Event("read", "", 0.0, None))
    clock, place = pair.Clock(), device.choose(job.settings.device)
    with clock("read"), device.run_in_background(lambda: dispatch.warm_up(place), place):
        fixed, moving = open_pair(job)
        (fixed_level, fixed_grey), (moving_level, moving_grey) = (
            x.level(max_size(job.settings)) for x in (fixed, moving)
        )
    alignment = _align(
        job,
        fixed,
        moving,
        fixed_level,
        moving_level,
        lambda event: listener(replace(event, done=event.done * ESTIMATE)),
    )
    transform = alignment.transform
    quality = replace(transform.quality, fixed_grey=fixed_grey, moving_grey=moving_grey)
    canvas = Canvas.union(transform) if job.settings.canvas == "union" else None
    if canvas:
        place_of = CanvasPlace(origin=(canvas.left, canvas.top), size=(canvas.width, canvas.height))
        quality = replace(quality, canvas=place_of)
    names = _names(job, moving.image)
    if landmarks:
        quality = replace(quality, landmarks=landmark_figures(transform, landmarks, job.settings))
    written = replace(_with_files(transform, job, fixed.image, moving.image), quality=quality)
    image = aligned_image(moving.image, fixed.image, transform, _style(job.settings), canvas)
    scene = Scene.of(fixed_level, moving_level, written)
    with mark_unfinished(job.output):
        with clock("warp and write"):
            _write_images(names, image, moving, transform, canvas, job.settings, listener)
        listener(Event("report", "", 1.0, None))
        with clock("pictures"):
            sheet, page = _pictures(scene, report=job.settings.report)
            write_bytes(names["overlay"], sheet)
        seconds = (
            {"read": clock.seconds["read"]}
            | alignment.seconds
            | clock.seconds
            | {"total": round(time.perf_counter() - begin, 3)}
        )
        written = replace(written, provenance=replace(written.provenance, seconds=seconds))
        if page:
            write_text(names["report"], page(written))
        _remove_replaced(job, names)
        written.save(names["transform"])
    listener(Event("done", "", 1.0, None))
    return Result(
        replace(alignment, transform=written),
        names,
        time.perf_counter() - begin,
        fixed.image.notes + moving.image.notes,
    )


def _remove_replaced(job: Job, names: dict[str, Path]) -> None:
    """Remove the results of an earlier alignment that this one does not write anew, but for what it was made from."""
    inputs = {Path(file).resolve() for files in other_files(job.settings).values() for file in files}
    for old in (job.output / name for name in RESULTS):
        if old not in names.values() and old.resolve() not in inputs:
            old.unlink(missing_ok=True)


def read_landmarks(chosen: Settings) -> tuple[Tensor, Tensor] | None:
    """The landmark pair whose errors are asked for, or the one the alignment starts from; None when there is none."""
    parts = (chosen.landmarks or chosen.init).split(",")
    if len(parts) != 2:
        if chosen.landmarks:
            raise RegisterError(f"--landmarks {chosen.landmarks}: two files are needed, FIXED.csv,MOVING.csv")
        return None
    return read_points(parts[0]), read_points(parts[1])


def other_files(chosen: Settings) -> dict[str, list[str]]:
    """The files besides the images that settings name, by the setting: masks, landmarks and starts; settings without a file are left out."""
    masks = {name: [getattr(chosen, name) or ""] for name in ("fixed_mask", "moving_mask")}
    named = masks | {name: (getattr(chosen, name) or "").split(",") for name in ("landmarks", "init")}
    return {
        name: files for name, files in named.items() if files[0] not in ("", "auto", "identity", "center")
    }


def hashes(chosen: Settings) -> dict[str, list[str | None]]:
    """The SHA-256 of those files."""
    return {name: [sha256(Path(file)) for file in files] for name, files in other_files(chosen).items()}


def landmark_figures(transform: Transform, pair: tuple[Tensor, Tensor], chosen: Settings) -> LandmarkSummary:
    """The landmark errors of a transform, and whether it has seen the landmarks."""
    seen = "The alignment has not seen them." if chosen.landmarks else "The alignment started from them."
    summary = landmarks.landmark_errors(transform, *pair).summary()
    return replace(summary, files=chosen.landmarks or chosen.init, note=seen)


def _pictures(scene: Scene, *, report: bool) -> tuple[bytes, Callable[[Transform], str] | None]:
    """The sheet of pictures, and what makes the page of a report, all of it but its text drawn already, where one is wanted; drawn by several threads."""
    if not report:
        return overlay(scene.whole(), scene.transform), None
    with device.worker_threads() as pool:
        view = pool.submit(scene.whole)
        from register.report.page import compared, details, page  # templates take a while to load

        parts = pool.submit(details, scene)
        sheet = pool.submit(overlay, view.result(), scene.transform)
        shown = compared(view.result(), scene.transform)
        return sheet.result(), partial(page, compared=shown, details=parts.result())


def _write_images(
    names: dict[str, Path],
    image: Image,
    moving: Source,
    transform: Transform,
    canvas: Canvas | None,
    chosen: Settings,
    listener: Listener,
) -> None:
    """Write the aligned image, which is computed on the way, and where it shows something."""
    write_aligned(
        names["aligned"],
        image,
        _style(chosen),
        tick=lambda share: listener(Event("write", "", ESTIMATE + (1 - ESTIMATE) * share, None)),
    )
    if "valid" in names:
        valid = None if moving.validity.everywhere else moving.validity.pixels()
        write_image(
            names["valid"],
            Image(
                ValidMask(transform, valid, canvas),
                pixel_size=image.pixel_size,
                geotags=image.geotags,
            ),
        )


def _align(
    job: Job, fixed: Source, moving: Source, fixed_level: Level, moving_level: Level, listener: Listener
) -> Alignment:
    """The alignment of two images; an error that one of them is to blame for names its file."""
    sizes = fixed.image.size, moving.image.size
    try:
        return api.align_levels(
            fixed_level,
            moving_level,
            sizes,
            job.settings,
            pixels=(fixed.image.pixel_size, moving.image.pixel_size),
            listener=listener,
        )
    except AlignmentError as error:
        if error.image is None:
            raise AlignmentError(f"{job.moving} on {job.fixed}: {error}") from None
        raise FileError(job.fixed if error.image == "fixed" else job.moving, error.message) from None


def plan(job: Job) -> Plan:
    """What ``run`` would do with the same job; opens the images, reads no pixels and writes nothing."""
    refuse_overwrite(job)
    fixed, moving = (x.image for x in open_pair(job))
    shrink = max(max(fixed.size) / max_size(job.settings), 1.0)
    working = round(fixed.size[1] / shrink), round(fixed.size[0] / shrink)
    whole = sum(x.nbytes for x in (fixed, moving) if isinstance(x.pixels, np.ndarray))
    memory = (
        BASE_MEMORY
        + PER_WORKING_PIXEL * working[0] * working[1]
        + whole
        + (moving.nbytes if aligned_name(moving).endswith(".png") else 0)
    )
    return Plan(
        fixed.size[::-1],
        moving.size[::-1],
        str(moving.dtype),
        working,
        str(device.choose(job.settings.device)),
        memory,
        tuple(_names(job, moving).values()),
    )


def open_pair(job: Job) -> tuple[Source, Source]:
    """Both images; raises ``FileError`` naming the one that cannot be read or whose type cannot be resampled."""
    chosen = job.settings
    fixed = _open(
        job.fixed,
        Selection(chosen.series, chosen.fixed_level, chosen.fixed_plane),
        chosen.fixed_mask,
        chosen.fixed_channel,
        chosen,
    )
    return fixed, _open(
        job.moving,
        Selection(chosen.series, chosen.moving_level, chosen.moving_plane),
        chosen.moving_mask,
        chosen.moving_channel,
        chosen,
    )


def _open(path: Path, part: Selection, mask: str | None, channel: str | None, chosen: Settings) -> Source:
    image = open_image(path, part)
    try:
        check_dtype(image.dtype)
    except RegisterError as error:
        raise FileError(path, str(error)) from None
    return Source(
        path, image, Validity(image, chosen.nodata, read_mask(mask, image.size) if mask else None), channel
    )


def refuse_overwrite(job: Job) -> None:
    """Raise ``FileError`` when the output folder is a file, or holds results and ``overwrite`` is off."""
    if job.output.exists() and not job.output.is_dir():
        raise FileError(job.output, "is a file, not a folder", "choose another --output")
    for path in (job.fixed, job.moving):
        if path.exists() and path.resolve().parent == job.output.resolve() and path.name in RESULTS:
            raise FileError(path, "is an input and would be overwritten", "choose another --output")
    folder = next(path for path in [job.output, *job.output.absolute().parents] if path.exists())
    if not os.access(folder, os.W_OK) or not folder.is_dir():
        raise FileError(job.output, "cannot be written (no permission)", "choose another --output")
    found = [name for name in RESULTS if (job.output / name).exists()]
    if found and not job.overwrite and not is_unfinished(job.output):
        raise FileError(
            job.output, f"already holds {', '.join(found)}", "use --overwrite or another --output"
        )


def _names(job: Job, moving: Image) -> dict[str, Path]:
    names = {"aligned": aligned_name(moving), "transform": "transform.json", "overlay": "overlay.png"}
    names |= ({"report": "report.html"} if job.settings.report else {}) | (
        {"valid": "valid.tif"} if job.settings.valid_mask else {}
    )
    return {role: job.output / name for role, name in names.items()}


def max_size(settings: Settings) -> int:
    """The longest side of the working copies, in pixels."""
    return settings.max_size or PRESETS[settings.preset].max_size


def _style(settings: Settings) -> OutputStyle:
    return OutputStyle(settings.interpolation, settings.fill, settings.compression, settings.pyramid)


def _with_files(transform: Transform, job: Job, fixed: Image, moving: Image) -> Transform:
    """The transform with the files of its frames, and of its settings."""
    names = job.names or (str(job.fixed), str(job.moving))
    frames = [
        _frame(path, name, image)
        for path, name, image in zip((job.fixed, job.moving), names, (fixed, moving), strict=True)
    ]
    known = transform.provenance
    asked = asdict(job.asked) if job.asked else known.settings
    provenance = replace(known, settings=asked, files=hashes(job.settings))
    return replace(transform, fixed=frames[0], moving=frames[1], provenance=provenance)


def _frame(path: Path, name: str, image: Image) -> Frame:
    height, width = image.size
    return Frame(width, height, image.pixel_size, name, sha256(path))
