"""Frames of an array in a file: of HDF5, Zarr, NumPy's ``.npy`` or raw values."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError
from register.io.movies.layout import Layout, NoPlane

Opened = tuple[Any, Callable[[], None]]
"""An array, of which parts are read by index, and a function that closes its file."""
Opener = Callable[[Path, str | None], Opened]
"""Opens the array of a file with a path within the file. A function of a module, so that it can be sent to
another process."""


class Arrangement(NamedTuple):
    """The ``axes`` of an array, the one ``along`` which frames lie, the index of each axis of which one
    element is read, and the entries of the first axis that make up each frame where planes or channels
    alternate along it."""

    axes: str
    along: str
    fixed: tuple[tuple[str, int], ...]
    pages: tuple[tuple[int, ...], ...] | None


@dataclass(frozen=True)
class ArrayFrames:
    """Frames (c, h, w) of an array that ``opener`` opens, ``count`` of them."""

    path: Path
    dataset: str | None
    opener: Opener
    arranged: Arrangement
    count: int
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    opened: list[Opened] = field(default_factory=list, compare=False, repr=False)

    def __len__(self) -> int:
        return self.count

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "opened": []}

    def read(self, index: int) -> NDArray[Any]:
        """See ``FrameSource``."""
        axes, along, fixed, pages = self.arranged
        try:
            if not self.opened:
                self.opened.append(self.opener(self.path, self.dataset))
            array = self.opened[0][0]
            if pages is not None:
                found = np.stack([np.asarray(array[n]) for n in pages[index]])
                left = "C" + axes[1:]
            else:
                chosen = {**dict(fixed), along: index}
                found = np.asarray(array[tuple(chosen.get(axis, slice(None)) for axis in axes)])
                left = "".join(axis for axis in axes if axis not in chosen)
        except (OSError, ValueError, KeyError, IndexError, RuntimeError) as error:
            raise FileError(self.path, f"frame {index} cannot be read ({error})", "check the file") from None
        found = found.transpose([left.index(axis) for axis in "CYX" if axis in left])
        return np.ascontiguousarray(found if "C" in left else found[None], dtype=self.dtype)

    def close(self) -> None:
        """Close the file."""
        while self.opened:
            self.opened.pop()[1]()


def frames_of(
    path: Path,
    layout: Layout,
    opener: Opener,
    *,
    axes: str | None = None,
    dataset: str | None = None,
) -> ArrayFrames:
    """The frames of the array that a function opens, with named ``axes`` or by the layout.

    Raises ``FileError`` for values that are not numbers, and for axes whose meaning is not known.
    """
    array, close = opener(path, dataset)
    try:
        shape, dtype = tuple(int(n) for n in array.shape), np.dtype(array.dtype)
    finally:
        close()
    if dtype.kind not in "uif":
        raise FileError(path, f"holds values of type {dtype}", "frames need integers or real numbers")
    arranged = _arranged(path, axes, shape, layout)
    sizes = dict(zip(arranged.axes, shape, strict=True))
    if arranged.pages is None:
        count = sizes[arranged.along]
        channels = 1 if "C" in dict(arranged.fixed) else sizes.get("C", 1)
    else:
        count, channels = len(arranged.pages), layout.channels
    if not count or not sizes["Y"] or not sizes["X"]:
        which = f"{layout.dataset} " if layout.dataset else ""
        raise FileError(path, f"{which}holds no frame: its shape is {shape}", "check the file")
    return ArrayFrames(
        path,
        dataset,
        opener,
        arranged,
        count,
        (channels, sizes["Y"], sizes["X"]),
        dtype.newbyteorder("="),
    )


def _arranged(path: Path, axes: str | None, shape: tuple[int, ...], layout: Layout) -> Arrangement:
    """What the axes of an array of a shape are."""
    if axes is None:
        if len(shape) == 3 and (layout.planes > 1 or layout.channels > 1):
            return Arrangement("TYX", "T", (), layout.of_pages(str(path), shape[0]))
        axes = _by_layout(path, shape, layout)
    if len(axes) != len(shape) or not set("YX") <= set(axes) <= set("TZCYX"):
        raise FileError(path, f"has axes {axes} of the shape {shape}", "a movie has T, Z, C, Y and X")
    sizes = dict(zip(axes, shape, strict=True))
    along = "T" if sizes.get("T", 1) > 1 or "Z" not in axes or sizes["Z"] == 1 else "Z"
    if along not in axes:
        raise FileError(path, f"has axes {axes}: a single frame", "name an array with several")
    if "Z" not in axes or along == "Z":
        layout.refuse_plane(path)
    fixed = dict[str, int]()
    if "Z" in axes and along == "T":
        fixed["Z"] = _plane(path, sizes["Z"], layout)
    if "T" in axes and along == "Z":
        fixed["T"] = 0
    return Arrangement(axes, along, tuple(fixed.items()), None)


def _by_layout(path: Path, shape: tuple[int, ...], layout: Layout) -> str:
    """The axes of an array whose file does not name them: frames first, then planes and channels."""
    planes, channels = layout.planes, layout.channels
    if len(shape) == 3:
        return "TYX"
    known = [
        ("TZYX", {1: planes}, planes > 1 and channels == 1),
        ("TCYX", {1: channels}, channels > 1 and planes == 1),
        ("TYXC", {3: channels}, channels > 1 and planes == 1),
        ("TZCYX", {1: planes, 2: channels}, planes > 1 and channels > 1),
        ("TCZYX", {1: channels, 2: planes}, planes > 1 and channels > 1),
    ]
    for axes, sizes, asked in known:
        if asked and len(axes) == len(shape) and all(shape[place] == n for place, n in sizes.items()):
            return axes
    sides = " × ".join(map(str, shape))
    if len(shape) < 3:
        raise FileError(path, f"holds an array of {sides}", "frames need three axes: frame, row, column")
    raise FileError(
        path, f"holds an array of {sides}, whose axes are not named", "name them by --planes and --channels"
    )


def _plane(path: Path, count: int, layout: Layout) -> int:
    """The plane that is read of ``count``."""
    if layout.plane is None and count > 1:
        raise FileError(path, f"has {count} planes", "name one by --plane")
    if (layout.plane or 0) >= count:
        raise NoPlane(path, f"has no plane {layout.plane}; it has {count}, counted from 0", "choose another")
    return layout.plane or 0
