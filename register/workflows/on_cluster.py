"""``apply`` and ``merge`` with ``--scheduler``: what the workers of a Dask cluster write."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from register.errors import FileError
from register.files import remote
from register.files.hashes import sha256
from register.io.images.model import LARGEST_SERIES, Image, Selection
from register.io.images.open import ZARR, open_image
from register.io.images.zarr_write import CHUNK, ChunkLayout
from register.transforms.transform import Transform
from register.workflows import merge, sharded
from register.workflows.aligned_image import PLAIN, OutputStyle
from register.workflows.apply import AppliedImage, grid_of, scale_of, warp_image
from register.workflows.local_files import LocalFiles


@dataclass(frozen=True)
class Applied:
    """One image that a transform resamples; ``scale`` is its resolution relative to the registered image."""

    transform: str
    file: str
    inverse: bool
    scale: float | None
    style: OutputStyle
    part: Selection

    def image(self, local: LocalFiles) -> Image:
        """The resampled image, computed when it is read."""
        transform, path = Transform.load(local.path(self.transform)), local.path(self.file)
        image = open_image(path, self.part)
        frame = transform.fixed if self.inverse else transform.moving
        scale = scale_of(frame, image, path) if self.scale is None else self.scale
        grid = grid_of(transform, inverse=self.inverse) if scale == 1 else None
        return warp_image(transform, image, inverse=self.inverse, scale=scale, style=self.style, grid=grid)

    def described(self, local: LocalFiles) -> str:
        """The options, and the hashes of both files."""
        files = (self.transform, self.file)
        return f"{self!r} {[sha256(local.path(name)) for name in files]}"


@dataclass(frozen=True)
class Merged:
    """The channels of the images of some transforms; relative names of images begin at ``base``."""

    transforms: tuple[str, ...]
    base: str
    options: merge.MergeOptions
    style: OutputStyle

    def image(self, local: LocalFiles) -> Image:
        """The merged image, computed when it is read."""
        return merge.merged_image(self.parts(local)[0], self.options)

    def parts(self, local: LocalFiles) -> tuple[list[merge.Part], list[str]]:
        """The images on the common grid, and remarks."""

        def located(name: str) -> Path:
            return local.path(name if remote.is_remote(name) else os.path.join(self.base, name))

        return merge.parts_of([local.path(name) for name in self.transforms], self.style, located)

    def described(self, local: LocalFiles) -> str:
        """The options, and the hashes of the transforms, which hold those of their images."""
        return f"{self!r} {[sha256(local.path(name)) for name in self.transforms]}"


def apply_on_cluster(
    scheduler: str,
    transform: str,
    images: Sequence[str],
    output: str,
    *,
    inverse: bool = False,
    labels: bool = False,
    scale: float | None = None,
    style: OutputStyle = PLAIN,
    part: Selection = LARGEST_SERIES,
    overwrite: bool = False,
    tick: sharded.Tick = lambda share: None,
) -> list[AppliedImage]:
    """``apply`` of one image, written as OME-Zarr by the workers. Raises ``FileError`` for another format."""
    if len(images) != 1:
        raise FileError(output, f"is one file for {len(images)} images", "name one image for each call")
    style = replace(style, interpolation="nearest", fill="0") if labels else style
    source = Applied(_absolute(transform), _absolute(images[0]), inverse, scale, style, part)
    made = _write(scheduler, source, output, style, overwrite=overwrite, tick=tick)
    height, width = made.size
    return [AppliedImage(images[0], output, width, height, scale or 1.0)]


def merge_on_cluster(
    scheduler: str,
    transforms: Sequence[Path],
    output: str,
    options: merge.MergeOptions,
    *,
    style: OutputStyle = PLAIN,
    overwrite: bool = False,
    tick: sharded.Tick = lambda share: None,
) -> merge.Merged:
    """``merge``, written as OME-Zarr by the workers. Raises ``FileError`` for another format."""
    names = tuple(_absolute(str(path)) for path in transforms)
    source = Merged(names, str(Path.cwd()), options, style)
    made = _write(scheduler, source, output, style, overwrite=overwrite, tick=tick)
    return merge.Merged(output, made.size[1], made.size[0], str(made.dtype), made.channel_names)


def _write(
    scheduler: str,
    source: Applied | Merged,
    output: str,
    style: OutputStyle,
    *,
    overwrite: bool,
    tick: sharded.Tick,
) -> Image:
    """Write a source as the options say."""
    if not output.rstrip("/").lower().endswith(ZARR):
        raise FileError(output, "cannot be written by several workers", "name an .ome.zarr with --scheduler")
    compression = "zstd" if style.compression == "auto" else style.compression
    return sharded.write_on_cluster(
        scheduler,
        source,
        output,
        ChunkLayout(style.chunks or CHUNK, compression),
        pyramid=style.pyramid is not False,
        nearest=style.interpolation == "nearest",
        overwrite=overwrite,
        tick=tick,
    )


def _absolute(name: str) -> str:
    """A name that workers understand too."""
    return name if remote.is_remote(name) else str(Path(name).absolute())
