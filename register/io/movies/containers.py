"""The formats whose files hold many frames, by the endings of their names."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from register.io.movies import hdf5, raw, tiff_pages, zarr_frames
from register.io.movies.layout import Layout
from register.io.movies.stack import Stack


class Container(NamedTuple):
    """A format: the endings of its files, the function that opens one, and the fields of ``Layout`` that only
    some formats have and that it has."""

    endings: tuple[str, ...]
    open: Callable[[Path, Layout], Stack]
    takes: tuple[str, ...] = ()


CONTAINERS = (
    Container((".tif", ".tiff", ".btf", ".tf8", ".tf2", ".lsm"), tiff_pages.open_pages),
    Container(hdf5.ENDINGS, hdf5.open_hdf5, ("dataset",)),
    Container((".npy",), raw.open_npy),
    Container((".bin",), raw.open_suite2p, ("frame_size",)),
    Container((".zarr",), zarr_frames.open_zarr, ("dataset",)),
)


def container_of(path: Path) -> Container | None:
    """The format of a file by its name, or of a folder by what is in it; None where it holds no frames."""
    if path.is_dir():
        return CONTAINERS[-1] if zarr_frames.is_zarr(path) else None
    ending = path.suffix.lower()
    return next((one for one in CONTAINERS[:-1] if ending in one.endings), None)
