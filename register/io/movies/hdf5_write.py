"""Write aligned frames as one dataset of HDF5: a chunk per frame."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from register.files.atomic import atomic_write
from register.io.movies.about import About, Add, Encoded
from register.io.movies.encode import LEVEL, stored
from register.io.movies.hdf5 import AXES, library

DATASET = "data"


@contextmanager
def hdf5_writer(path: Path, about: About) -> Iterator[Add]:
    """A function that adds one frame to the dataset ``data``, whose attributes state its axes, the pixel size
    and the time between frames. Raises ``FileError`` without h5py."""
    h5py, stack = library(path), about.stack
    channels, height, width = stack.shape
    one = (height, width, 3) if stack.rgb else (height, width) if channels == 1 else stack.shape
    with atomic_write(path) as beside, h5py.File(beside, "w") as file:
        packed = {} if about.compression == "none" else {"compression": "gzip", "compression_opts": LEVEL}
        data = file.create_dataset(
            DATASET, (len(stack), *one), stack.dtype, chunks=(1, *one), track_times=False, **packed
        )
        data.attrs[AXES] = stack.axis + ("YXC" if stack.rgb else "YX" if channels == 1 else "CYX")
        if stack.step and stack.axis == "T":
            data.attrs["interval_seconds"] = stack.step
        if stack.pixel_size:
            data.attrs["pixel_size_xy"] = stack.pixel_size.xy
            data.attrs["pixel_unit"] = stack.pixel_size.unit or ""
        yield adder(data, stack.rgb)


def adder(data: Any, rgb: bool = False) -> Add:
    """A function that adds one frame after the other to a dataset with a chunk per frame."""
    number = 0

    def add(frame: Encoded) -> None:
        nonlocal number
        if isinstance(frame, bytes):
            data.id.write_direct_chunk((number, *[0] * (len(data.shape) - 1)), frame)
        else:
            data[number] = stored(frame, rgb)
        number += 1

    return add
