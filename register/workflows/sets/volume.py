"""The aligned images of a set as the z planes of one OME-TIFF or OME-Zarr."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError, RegisterError
from register.images.pixels import EVERYTHING
from register.io.images.model import Image
from register.io.images.open import ZARR, Storage, write_zarr_volume
from register.io.movies.about import About
from register.io.movies.stack import Stack
from register.io.movies.tiff_write import stack_writer
from register.io.movies.write import FORMATS, format_of
from register.settings import Settings
from register.workflows.sets.solve import Group


def check_compression(path: Path, compression: str) -> None:
    """Raise ``FileError`` for a compression that the format of a volume does not have."""
    known = FORMATS[_format(path)].compressions
    if compression not in ("auto", *known):
        raise FileError(path, f"cannot be written with {compression}", f"use {', '.join(known)}")


def check(images: Sequence[tuple[str, Image]], thickness: float | None) -> None:
    """Raise ``RegisterError`` unless all images, with the names of their files, have one type and number of
    channels, and for a ``thickness``, in the unit of the pixel size, a pixel size."""
    unknown = [name for name, image in images if not image.pixel_unit]
    if thickness is not None and unknown:
        raise RegisterError(
            f"--thickness is in the unit of the pixel size, and {unknown[0]} states none; leave it out"
        )
    first = None
    for name, one in images:
        image = one.coloured()
        kind = image.dtype, image.channels, image.colour
        if first and kind != first[1]:
            raise RegisterError(
                f"--volume: {name} has {image.channels} channels of {image.dtype}, and {first[0]} has"
                f" {first[1][1]} of {first[1][0]}; a volume needs one kind of image"
            )
        first = first or (name, kind)


def write(
    group: Group, aligned: Mapping[str, Image], path: Path, thickness: float | None, settings: Settings
) -> None:
    """Write the aligned images in their order; an image without a place is a plane of zeros.

    An OME-Zarr has coarser levels unless the settings say otherwise, and is written shard by shard; a TIFF
    is written plane by plane.
    """
    placed = [group.members[n] for n in group.order]
    check([(x.image.path, aligned[x.image.id]) for x in group.first], thickness)
    images = tuple(
        aligned[member.image.id].coloured() if member in group.first else None for member in placed
    )
    if _format(path) == "ome-zarr":
        storage = Storage(
            settings.compression,
            chunks=settings.chunks,
            pyramid=settings.pyramid,
            nearest=settings.interpolation == "nearest",
        )
        write_zarr_volume(path, images, storage, step=thickness)
        return
    like = next(image for image in images if image is not None)
    stack = Stack(
        path.name.split(".")[0], (), _Planes(images, like), rgb=like.colour == "rgb" and like.channels == 3,
        axis="Z", step=thickness, pixel_size=like.pixel_size, channel_names=like.channel_names,
    )  # fmt: skip
    with stack_writer(path, About(stack, format_of("tiff", settings.compression)[1])) as add:
        for index in range(len(stack)):
            add(stack.frame(index))


def _format(path: Path) -> str:
    """The name of the format of a volume, by the ending of its file."""
    return "ome-zarr" if path.name.lower().endswith(ZARR) else "tiff"


@dataclass(frozen=True)
class _Planes:
    """Aligned images as the planes of a volume; zeros where there is none."""

    images: tuple[Image | None, ...]
    like: Image

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows, columns of a plane."""
        return (self.like.channels, *self.like.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a value."""
        return self.like.dtype

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> NDArray[Any]:
        """One plane (c, h, w)."""
        image = self.images[index]
        return np.zeros(self.shape, self.dtype) if image is None else image.pixels[EVERYTHING]

    def close(self) -> None:
        """Nothing is open."""
