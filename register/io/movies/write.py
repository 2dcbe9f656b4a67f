"""The formats that aligned frames are written in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from register.errors import RegisterError
from register.io.movies.about import Encoded, Writer
from register.io.movies.encode import encoded
from register.io.movies.hdf5_write import hdf5_writer
from register.io.movies.nwb_write import check_nwb, nwb_frame, nwb_writer
from register.io.movies.stack import Stack
from register.io.movies.suite2p_write import check_suite2p, suite2p_frame, suite2p_writer
from register.io.movies.tiff_write import stack_writer
from register.io.movies.zarr_write import zarr_frame, zarr_writer


class MovieFormat(NamedTuple):
    """A format: the file of a name in a folder, its compressions, how a worker encodes a frame (c, h, w) of a
    stack, how files are written, and what refuses stacks that it cannot hold. ``auto`` is the first
    compression."""

    target: Callable[[Path, str], Path]
    compressions: tuple[str, ...]
    encode: Callable[[NDArray[Any], Stack, str], Encoded]
    writer: Writer
    check: Callable[[Path, Stack], object] = lambda path, stack: None


def _named(ending: str) -> Callable[[Path, str], Path]:
    """Files in the folder with an ending."""
    return lambda folder, name: folder / f"{name}{ending}"


def _of_suite2p(folder: Path, name: str) -> Path:
    """The place where suite2p looks for the frames of its only plane."""
    return folder / "suite2p" / "plane0" / f"data{name.removeprefix('aligned')}.bin"


def _strip(frame: NDArray[Any], stack: Stack, compression: str) -> Encoded:
    return encoded(frame, stack.rgb, compression)


FORMATS = {
    "tiff": MovieFormat(_named(".tif"), ("deflate", "none", "lzw", "zstd"), _strip, stack_writer),
    "ome-zarr": MovieFormat(_named(".ome.zarr"), ("zstd", "none", "deflate"), zarr_frame, zarr_writer),
    "hdf5": MovieFormat(_named(".h5"), ("deflate", "none"), _strip, hdf5_writer),
    "nwb": MovieFormat(_named(".nwb"), ("deflate", "none"), nwb_frame, nwb_writer, check_nwb),
    "suite2p": MovieFormat(_of_suite2p, ("none",), suite2p_frame, suite2p_writer, check_suite2p),
}


def format_of(name: str, compression: str) -> tuple[MovieFormat, str]:
    """The format of a name, and the compression that is used. Raises ``RegisterError`` for one it lacks."""
    if name not in FORMATS:
        raise RegisterError(f"--format {name!r}: one of {', '.join(FORMATS)}")
    chosen = FORMATS[name]
    if compression == "auto":
        return chosen, chosen.compressions[0]
    if compression not in chosen.compressions:
        known = ", ".join(chosen.compressions)
        raise RegisterError(f"--compression {compression}: a movie in {name} has {known}")
    return chosen, compression
