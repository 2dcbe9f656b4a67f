"""A job is paths plus settings: one pair from files to files."""

import hashlib
import os
import platform
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

import register
from register import api, device, pipeline
from register.errors import AlignmentError, FileError
from register.io.atomic import whole
from register.io.images import Image, aligned_name, colour_channels, read_image, valid_pixels, write_image
from register.pipeline import Alignment, Event, Listener
from register.report.overlay import overlay
from register.resample import check_dtype, warp_channels, warp_pixels
from register.settings import PRESETS, Settings
from register.transform import Frame, Transform

RESULTS = ("aligned.tif", "aligned.ome.tif", "aligned.png", "transform.json", "overlay.png")


@dataclass(frozen=True)
class Job:
    """One pair: the files of the fixed and the moving image, the folder for the results, and the settings."""

    fixed: Path
    moving: Path
    output: Path
    settings: Settings
    overwrite: bool = False


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


def run(job: Job, listener: Listener = lambda event: None) -> Result:
    """Align the pair and write ``aligned.*``, ``transform.json`` and ``overlay.png``, each whole or not at all."""
    begin = time.perf_counter()
    refuse_overwrite(job)
    listener(Event("read", "", 0.0, None))
    clock = pipeline.Clock()
    with clock("read"):
        fixed, moving = read_pair(job)
    alignment = _align(job, fixed, moving, listener)
    listener(Event("write", "", 0.97, None))
    with clock("warp"):
        aligned = _aligned(fixed, moving, alignment.transform, job.settings)
    with clock("overlay"):
        picture = _picture(fixed, moving, aligned, alignment, job)
    names = _names(job, moving)
    with clock("write"):
        write_image(names["aligned"], aligned)
        with whole(names["overlay"]) as beside:
            picture.save(beside, "png", compress_level=3)
    seconds = clock.seconds | alignment.seconds
    transform = _with_provenance(alignment, job, fixed, moving, seconds | {"total": round(time.perf_counter() - begin, 3)})
    transform.save(names["transform"])
    listener(Event("done", "", 1.0, None))
    return Result(replace(alignment, transform=transform), names, time.perf_counter() - begin, fixed.notes + moving.notes)


def _align(job: Job, fixed: Image, moving: Image, listener: Listener) -> Alignment:
    """The alignment of two images; an error that one of them is to blame for names its file."""
    try:
        return api.align_planes(
            _tensor(fixed), _tensor(moving), job.settings, fixed_mask=_mask(fixed), moving_mask=_mask(moving), pixels=_pixels(fixed, moving), listener=listener
        )
    except AlignmentError as error:
        if error.image is None:
            raise AlignmentError(f"{job.moving} on {job.fixed}: {error}") from None
        raise FileError(job.fixed if error.image == "fixed" else job.moving, error.message) from None


def plan(job: Job) -> Plan:
    """What ``run`` would do with the same job; reads the images, writes nothing."""
    refuse_overwrite(job)
    fixed, moving = read_pair(job)
    height, width = fixed.size
    max_size = job.settings.max_size or PRESETS[job.settings.preset].max_size
    shrink = max(max(height, width) / max_size, 1.0)
    working = round(width / shrink), round(height / shrink)
    memory = 2 * (fixed.pixels.nbytes + moving.pixels.nbytes) + 160 * working[0] * working[1] + 400_000_000
    return Plan(
        fixed.size[::-1],
        moving.size[::-1],
        str(moving.pixels.dtype),
        working,
        str(device.choose(job.settings.device)),
        memory,
        tuple(_names(job, moving).values()),
    )


def read_pair(job: Job) -> tuple[Image, Image]:
    """Both images; raises ``FileError`` naming the one that cannot be read or whose type cannot be resampled."""
    fixed, moving = read_image(job.fixed), read_image(job.moving)
    for image, path in ((fixed, job.fixed), (moving, job.moving)):
        try:
            check_dtype(image.pixels.dtype)
        except register.RegisterError as error:
            raise FileError(path, str(error)) from None
    return fixed, moving


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
    if found and not job.overwrite:
        raise FileError(job.output, f"already holds {', '.join(found)}", "use --overwrite or another --output")


def _names(job: Job, moving: Image) -> dict[str, Path]:
    return {"aligned": job.output / aligned_name(moving), "transform": job.output / "transform.json", "overlay": job.output / "overlay.png"}


def _pixels(fixed: Image, moving: Image) -> tuple[tuple[float, float], tuple[float, float]]:
    """The pixel sizes of both images, or ones when they do not share a unit: what other programs' transforms count in."""
    if fixed.pixel_size and moving.pixel_size and fixed.pixel_unit == moving.pixel_unit:
        return fixed.pixel_size, moving.pixel_size
    return (1.0, 1.0), (1.0, 1.0)


def _tensor(image: Image) -> torch.Tensor:
    """The picture (c, h, w) as float32, opacity left out."""
    return torch.from_numpy(colour_channels(image).astype(np.float32))


def _mask(image: Image) -> torch.Tensor | None:
    valid = valid_pixels(image)
    return None if valid is None else torch.from_numpy(valid.astype(np.float32))


def _aligned(fixed: Image, moving: Image, transform: Transform, settings: Settings) -> Image:
    """The moving image on the fixed grid, with the fixed image's pixel size."""
    fill = api.fill_value(settings.fill, moving.pixels)
    pixels = warp_channels(moving.pixels, transform, alpha=moving.alpha, interpolation=settings.interpolation, fill=fill)
    return replace(moving, pixels=pixels, pixel_size=fixed.pixel_size, pixel_unit=fixed.pixel_unit)


def _picture(fixed: Image, moving: Image, aligned: Image, alignment: Alignment, job: Job) -> Any:
    still = replace(alignment.transform, model="translation", matrix=torch.eye(2, 3, dtype=torch.float64), grid=None, matrices=None)
    before = warp_pixels(colour_channels(moving), still, fill=api.fill_value("auto", moving.pixels) or 0.0)
    quality = alignment.quality
    title = f"{job.moving.name} on {job.fixed.name}: {quality['verdict']}, similarity {quality['similarity_before']:.2f} to {quality['similarity_after']:.2f}"
    return overlay(colour_channels(fixed), before, colour_channels(aligned), title)


def _with_provenance(alignment: Alignment, job: Job, fixed: Image, moving: Image, seconds: dict[str, float]) -> Transform:
    """The transform with its frames' files and where it comes from."""
    provenance = {
        "register": register.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "device": str(device.choose(job.settings.device)),
        "threads": torch.get_num_threads(),
        "seed": job.settings.seed,
        "settings": asdict(job.settings),
        "seconds": seconds,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    frames = [_frame(path, image) for path, image in ((job.fixed, fixed), (job.moving, moving))]
    return replace(alignment.transform, fixed=frames[0], moving=frames[1], quality=alignment.quality, provenance=provenance)


def _frame(path: Path, image: Image) -> Frame:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    height, width = image.size
    return Frame(width, height, image.pixel_size, image.pixel_unit, str(path), digest)
