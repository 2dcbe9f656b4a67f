"""``register apply``: other images are resampled by a saved transform."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from register.errors import FileError, RegisterError
from register.files import remote
from register.files.atomic import refuse_existing, refuse_inputs
from register.files.hashes import sha256
from register.io.images import storable
from register.io.images.model import LARGEST_SERIES, Image, Selection
from register.io.images.open import (
    ZARR,
    aligned_name,
    check_written,
    is_written,
    open_header,
    open_image,
    stored,
)
from register.transforms.frame import Frame
from register.transforms.transform import Inverse, Transform
from register.workflows.aligned_image import PLAIN, OutputStyle, aligned_image, write_aligned
from register.workflows.local_files import local_files

SIDES_AGREE = 0.01
"""Largest relative difference between the scales of an image's two sides."""
LARGEST_SHRINK = 128
"""Pyramid levels are recognised down to this fraction of the registered resolution."""


@dataclass(frozen=True)
class AppliedImage:
    """One resampled image: its file, the file written, its size in pixels, and its scale.

    The scale is its resolution relative to the registered image; the notes say what was read of the file.
    """

    source: str
    file: str
    width: int
    height: int
    scale: float
    notes: tuple[str, ...] = ()


def apply(
    transform: Transform,
    images: list[Path],
    output: Path,
    *,
    inverse: bool = False,
    labels: bool = False,
    scale: float | None = None,
    style: OutputStyle = PLAIN,
    part: Selection = LARGEST_SERIES,
    overwrite: bool = False,
    tick: Callable[[float], None] = lambda share: None,
) -> list[AppliedImage]:
    """Resample images onto the fixed grid, or with ``inverse`` onto the moving grid.

    ``labels`` are resampled by nearest neighbour and filled with 0. ``output`` is a file for one image when
    its suffix is that of an image, else a folder. ``tick`` receives the fraction that is done. Raises
    ``FileError`` when an image does not have the shape that the transform expects, or when a result exists
    already.
    """
    names = _outputs(images, output)
    for name in names:
        refuse_existing(name, overwrite)
        refuse_inputs(name, *images)
    style = replace(style, interpolation="nearest", fill="0") if labels else style
    frame = transform.fixed if inverse else transform.moving
    done: list[AppliedImage] = []
    grid = grid_of(transform, inverse=inverse)
    for path, name in zip(images, names, strict=True):
        image = open_image(path, part)
        factor = scale_of(frame, image, path) if scale is None else scale
        target = name if name.suffix else name.with_name(_name_for(path, image, style))
        advice = "name a .ome.tif, or choose a channel: --plane C=0"
        storable.check(path, image.interpolated(style.interpolation), target.name, style.compression, advice)
        refuse_existing(target, overwrite or target == name)
        refuse_inputs(target, *images)
        placed = grid if factor == 1 else None
        aligned = _warped(transform, image, path, inverse=inverse, scale=factor, style=style, grid=placed)
        write_aligned(target, aligned, style, tick=lambda share: tick((len(done) + share) / len(images)))
        size = aligned.size
        done.append(AppliedImage(str(path), str(target), size[1], size[0], factor, image.notes))
    return done


def apply_at(transform: str, images: list[str], output: str, **options: Any) -> list[AppliedImage]:
    """``apply`` of files any of which, the output too, may be at a remote address.

    ``options`` are those of ``apply``. Raises ``FileError`` as it does, and for a file that cannot be copied.
    """
    with local_files() as local:
        loaded = Transform.load(local.path(transform))
        files = [local.path(name) for name in images]
        if not remote.is_remote(output):
            done = apply(loaded, files, Path(output), **options)
            return [replace(one, source=name) for one, name in zip(done, images, strict=True)]
        address, folder = output.rstrip("/"), local.folder()
        place = folder
        if is_written(address):
            address, _, name = address.rpartition("/")
            place = folder / name
        overwrite = options.get("overwrite", False)
        if is_written(output) and remote.exists(output) and not overwrite:
            raise FileError(output, "exists already", "use --overwrite or another --output")
        done = apply(loaded, files, place, **options)
        moved = [f"{address}/{Path(one.file).name}" for one in done]
        if not overwrite:
            for name in moved:
                if remote.exists(name):
                    raise FileError(name, "exists already", "use --overwrite or another --output")
        remote.store(folder, address, last="")
        pairs = zip(done, images, moved, strict=True)
        return [replace(one, source=name, file=file) for one, name, file in pairs]


def grid_of(transform: Transform, *, inverse: bool) -> Image | None:
    """The image whose grid results have, where it states its place on a map or stage; None where it is not
    there, or has changed since it was aligned."""
    frame, kind = (transform.moving, "moving") if inverse else (transform.fixed, "fixed")
    if frame.path is None or frame.sha256 is None or remote.is_remote(frame.path):
        return None
    settings = transform.provenance.settings
    level, plane = settings.get(f"{kind}_level") or 0, settings.get(f"{kind}_plane")
    try:
        image = open_header(frame.path, Selection(settings.get("series"), level, plane))
    except RegisterError:
        return None
    same = image.size == (frame.height, frame.width) and bool(image.geotags or image.position)
    return image if same and sha256(Path(frame.path)) == frame.sha256 else None


def warp_image(
    transform: Transform,
    image: Image,
    *,
    inverse: bool,
    scale: float,
    style: OutputStyle,
    grid: Image | None = None,
) -> Image:
    """An image at ``scale`` times the registered resolution on the other image's grid at that scale.

    The grid's frame gives the pixel size, and ``grid``, its image, the place on a map or stage. The pixels
    are computed when they are read.
    """
    scaled = transform if scale == 1 else transform.at_scale(scale)
    source = scaled.fixed if inverse else scaled.moving
    height, width = image.size
    if (source.width, source.height) != (width, height):  # rounding: the image may have a row more or less
        frame = replace(source, width=width, height=height)
        scaled = replace(scaled, fixed=frame) if inverse else replace(scaled, moving=frame)
    direction: Transform | Inverse = scaled.inverse() if inverse else scaled
    return aligned_image(image, grid, direction, style)


def scale_of(frame: Frame, image: Image, path: Path) -> float:
    """The ratio of an image's size to the frame's, from pyramid levels, pixel sizes or the sides.

    Raises ``FileError`` when the two sides have different ratios: the image is another one, or a part of it.
    """
    height, width = image.size
    if (width, height) == (frame.width, frame.height):
        return 1.0
    ratio = _pyramid_ratio(frame, width, height) or _pixel_size_ratio(frame, image)
    if ratio is not None:
        return ratio
    across, down = width / frame.width, height / frame.height
    if abs(across - down) > SIDES_AGREE * max(across, down):
        raise FileError(
            path,
            f"is {width} × {height} pixels; the transform is for {frame.width} × {frame.height}"
            " and the same image at other resolutions",
            "use --scale if it is the same image",
        )
    return math.sqrt(across * down)


def _pyramid_ratio(frame: Frame, width: int, height: int) -> float | None:
    """The ratio of a pyramid level, n or 1 / n for an integer n; the last row may be cut or padded."""
    for factor in range(2, LARGEST_SHRINK + 1):
        for ratio in (1 / factor, float(factor)):
            if _rounds_to(width, frame.width * ratio) and _rounds_to(height, frame.height * ratio):
                return ratio
    return None


def _rounds_to(count: int, exact: float) -> bool:
    return count in (math.floor(exact), math.ceil(exact))


def _pixel_size_ratio(frame: Frame, image: Image) -> float | None:
    """The ratio of the pixel sizes, where both are known and agree with the size of the image."""
    if not frame.pixel_size or not image.pixel_size or frame.pixel_size.unit != image.pixel_size.unit:
        return None
    height, width = image.size
    ratio = frame.pixel_size.x / image.pixel_size.x
    fits = abs(width - frame.width * ratio) <= 1.5 and abs(height - frame.height * ratio) <= 1.5
    return ratio if fits else None


def _warped(transform: Transform, image: Image, path: Path, **options: Any) -> Image:
    """``warp_image``, whose errors name the file."""
    try:
        return warp_image(transform, image, **options)
    except RegisterError as error:
        raise FileError(path, str(error)) from None


def _outputs(images: list[Path], output: Path) -> list[Path]:
    """A path per image.

    For one image it is the output itself when that has a suffix, else a name without suffix in the folder.
    Raises ``FileError`` for a suffix of no format that is written, and for one file for several images.
    """
    if len(images) > 1 and is_written(output):
        raise FileError(output, f"is one file for {len(images)} images", "name a folder")
    zarr = output.name.lower().endswith(ZARR)
    if len(images) == 1 and output.suffix and (zarr or not output.is_dir()):
        check_written(output)
        return [output]
    stems = [path.name.split(".")[0] for path in images]
    repeated = next((stem for stem in stems if stems.count(stem) > 1), None)
    if repeated is not None:
        raise RegisterError(
            f"two images are called {repeated}: their results would overwrite each other;"
            " name one output per call"
        )
    return [output / stem for stem in stems]


def _name_for(path: Path, image: Image, style: OutputStyle) -> str:
    """The image's own stem with the suffix of its result."""
    name = aligned_name(image, "tiff" if style.pages else stored("auto", style.compression, style.pyramid))
    return path.name.split(".")[0] + name.removeprefix("aligned")
