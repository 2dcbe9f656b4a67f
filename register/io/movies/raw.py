"""Frames that lie one after the other in a file, without compression: NumPy's ``.npy``, suite2p's binary."""

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError
from register.io.images.tiff_extent import cut_off
from register.io.movies.arrays import Opened, frames_of
from register.io.movies.layout import Layout
from register.io.movies.source import cut_note
from register.io.movies.stack import Stack

OPTIONS = ("ops.npy", "settings.npy", "db.npy")
"""Files beside suite2p's binary that state the size of a frame."""


@dataclass(frozen=True)
class RawFrames:
    """``count`` frames (c, h, w) from byte ``offset`` on, in the byte order of ``stored``."""

    path: Path
    offset: int
    stored: np.dtype[Any]
    shape: tuple[int, int, int]
    count: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """See ``FrameSource``."""
        return self.stored.newbyteorder("=")

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> NDArray[Any]:
        """See ``FrameSource``."""
        size = int(np.prod(self.shape))
        try:
            found = np.fromfile(
                self.path, self.stored, size, offset=self.offset + index * size * self.stored.itemsize
            )
        except OSError as error:
            raise FileError(self.path, f"frame {index} cannot be read ({error})", "check the file") from None
        if len(found) != size:
            raise FileError(self.path, f"frame {index} is incomplete", "check the file")
        return found.reshape(self.shape).astype(self.dtype, copy=False)

    def close(self) -> None:
        """Nothing is left open."""


def whole_frames(path: Path, offset: int, stored: np.dtype[Any], shape: tuple[int, ...]) -> int:
    """The number of whole frames between a byte and the end of a file."""
    return max((path.stat().st_size - offset) // max(int(np.prod(shape)) * stored.itemsize, 1), 0)


def open_npy(path: Path, layout: Layout) -> Stack:
    """The frames along the first axis of an array. Raises ``FileError``."""
    shape, fortran, stored, offset = _header(path)
    whole = shape[0] if shape else 0
    if stored.kind in "uif" and len(shape) >= 3:
        bytes_there = path.stat().st_size - offset
        if bytes_there < int(np.prod(shape)) * stored.itemsize:
            whole = 0 if fortran else whole_frames(path, offset, stored, shape[1:])
            if not (layout.allow_truncated and whole):
                raise cut_off(path, f"{whole} of {shape[0]} entries are left")
    frames = frames_of(path, layout, opened_npy)
    notes = (cut_note(path, len(frames), shape[0]),) if whole < shape[0] else ()
    return Stack(path.name, (path,), frames, axis=frames.arranged.along, notes=notes)


def opened_npy(path: Path, _: str | None) -> Opened:
    """The array of a file, without the entries that a file cut short lacks."""
    shape, fortran, stored, offset = _header(path)
    if len(shape) >= 3 and not fortran and stored.kind in "uif":
        shape = (min(shape[0], whole_frames(path, offset, stored, shape[1:])), *shape[1:])
    if not all(shape) or stored.kind not in "uif":
        return np.empty([0] * len(shape), stored), lambda: None
    if fortran:
        return np.memmap(path, stored, "r", offset, shape, "F"), lambda: None
    return np.memmap(path, stored, "r", offset, shape), lambda: None


def _header(path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether the first index is the fastest, type of a value, and the byte of the first one."""
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else None
            read = read or np.lib.format.read_array_header_2_0
            shape, fortran, stored = read(file)
            return shape, fortran, stored, file.tell()
    except (OSError, ValueError) as error:
        raise FileError(path, f"cannot be read as an array of NumPy ({error})", "check the file") from None


def open_suite2p(path: Path, layout: Layout) -> Stack:
    """The frames int16 of suite2p's binary, whose size is stated beside it or given. Raises ``FileError``."""
    layout.refuse_plane(path)
    width, height, step = _frame_size(path, layout)
    stored = np.dtype("<i2")
    count, rest = divmod(path.stat().st_size, width * height * stored.itemsize)
    if rest and not (layout.allow_truncated and count):
        raise cut_off(path, f"it has {count} frames of {width} × {height} int16 and {rest} more bytes")
    if not count:
        raise FileError(path, "holds no frame", "check the file")
    notes = (f"{path.name} is cut short: {count} frames are whole and are used",) if rest else ()
    frames = RawFrames(path, 0, stored, (1, height, width), count)
    return Stack(path.name, (path,), frames, step=step, notes=notes)


def _frame_size(path: Path, layout: Layout) -> tuple[int, int, float | None]:
    """Width and height of a frame, and the seconds between frames where they are stated."""
    if layout.frame_size:
        return *layout.frame_size, None
    for name in OPTIONS:
        beside = path.with_name(name)
        known = _options(beside) if beside.exists() else {}
        height, width, rate = (_number(known.get(key)) for key in ("Ly", "Lx", "fs"))
        if height and width:
            return int(width), int(height), 1 / rate if rate else None
    advice = "keep ops.npy beside it, or give --frame-size WIDTHxHEIGHT"
    raise FileError(path, "does not state the size of its frames", advice)


def _number(value: object) -> float:
    """A number, 0 for anything else."""
    return float(value) if isinstance(value, int | float | np.number) else 0.0


class _Plain(pickle.Unpickler):
    """Reads numbers, texts, lists, dictionaries and arrays of a pickle, and runs nothing else of it."""

    def find_class(self, module: str, name: str) -> Any:
        """The few functions of NumPy that arrays need; an empty object in place of any other."""
        if name in ("_reconstruct", "scalar") and module.endswith("core.multiarray"):
            return super().find_class(module, name)
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        return _Nothing


class _Nothing:
    """Takes the place of an object of a class that is not read."""

    def __new__(cls, *_: object, **__: object) -> "_Nothing":
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


def _options(path: Path) -> dict[str, object]:
    """The options that suite2p keeps in a file, without running code of it."""
    try:
        data = path.read_bytes()
        file = io.BytesIO(data)
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else None
        (read or np.lib.format.read_array_header_2_0)(file)
        found = _Plain(file).load()
        inner = found.item() if isinstance(found, np.ndarray) and found.shape == () else found
        return inner if isinstance(inner, dict) else {}
    except Exception as error:  # a damaged pickle raises anything
        raise FileError(path, f"cannot be read ({error})", "give --frame-size WIDTHxHEIGHT") from None
