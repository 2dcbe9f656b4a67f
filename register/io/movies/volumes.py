"""Movies of volumes: the planes of every time, and one plane of volumes that moved along z."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError
from register.io.movies.about import About
from register.io.movies.encode import encoded
from register.io.movies.layout import Layout, NoPlane
from register.io.movies.open import open_stack
from register.io.movies.source import FrameSource
from register.io.movies.stack import Joined, Stack
from register.io.movies.tiff_write import stack_writer


def open_planes(sources: tuple[str, ...], layout: Layout) -> list[Stack]:
    """The movie of each plane, in order. Raises ``FileError`` where there is one plane only."""
    planes = list[Stack]()
    while True:
        try:
            planes.append(open_stack(sources, layout.at_plane(len(planes))))
        except NoPlane:
            break
    if len(planes) < 2:
        raise FileError(planes[0].files[0] if planes else sources[0], "has one plane", "leave out --volume")
    return planes


@dataclass(frozen=True)
class Resliced:
    """Frames (c, h, w) at a plane of the reference, which lie at the place ``depths[t]`` between planes at
    time t. Values are interpolated linearly; the nearest plane stands in for places beyond the stack."""

    planes: tuple[FrameSource, ...]
    depths: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """See ``FrameSource``."""
        return self.planes[0].shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """See ``FrameSource``."""
        return self.planes[0].dtype

    def __len__(self) -> int:
        return len(self.depths)

    def read(self, index: int) -> NDArray[Any]:
        """See ``FrameSource``."""
        depth = min(max(self.depths[index], 0.0), len(self.planes) - 1.0)
        below = min(int(depth), len(self.planes) - 2)
        share = depth - below
        if share in (0.0, 1.0):
            return self.planes[below + int(share)].read(index)
        one, other = (self.planes[below + k].read(index).astype(np.float64) for k in (0, 1))
        mixed = (1 - share) * one + share * other
        return (np.rint(mixed) if self.dtype.kind in "ui" else mixed).astype(self.dtype)

    def close(self) -> None:
        """See ``FrameSource``."""
        for plane in self.planes:
            plane.close()


def write_volumes(path: Path, planes: Sequence[Path], like: Stack, compression: str) -> None:
    """Write aligned movies of one size, one per plane, as volumes over time (axes T, Z): one BigTIFF with
    what the files of ``like``, the movie of a plane, state.

    Raises ``FileError`` for a movie that cannot be read.
    """
    with ExitStack() as opened:
        movies = [open_stack((str(one),), Layout()) for one in planes]
        for one in movies:
            opened.callback(one.close)
        about = About(
            replace(like, source=_Volumes(tuple(one.source for one in movies)), planes=len(movies)),
            compression,
        )
        add = opened.enter_context(stack_writer(path, about))
        for index in range(len(about.stack)):
            add(encoded(about.stack.frame(index), like.rgb, compression))


class _Volumes(Joined):
    """The frames of all planes at one time, then those of the next time; each part is a plane."""

    def read(self, index: int) -> NDArray[Any]:
        """See ``FrameSource``."""
        time, plane = divmod(index, len(self.parts))
        return self.parts[plane].read(time)
