"""How the frames of a movie lie in its files. Imports no library: the help needs it."""

import re
from dataclasses import dataclass, replace

from register.errors import FileError, RegisterError


@dataclass(frozen=True)
class Layout:
    """How frames lie in a file whose axes are not all named.

    ``planes`` and ``channels`` are the numbers of planes and channels that alternate along the pages of a
    file, the channel fastest. ``plane`` is the plane that is read, counted from 0. ``dataset`` is the path
    of the array in an HDF5, NWB or Zarr file. With ``allow_truncated`` the whole frames that are left of a
    file that is cut off are enough. ``frame_size`` is the width and height of frames in a file that holds
    values alone.
    """

    planes: int = 1
    channels: int = 1
    plane: int | None = None
    dataset: str | None = None
    allow_truncated: bool = False
    frame_size: tuple[int, int] | None = None

    def of_pages(self, name: str, count: int) -> tuple[tuple[int, ...], ...]:
        """The pages of every frame, one per channel, of a file with ``count`` pages; a rest is left out.

        Raises ``RegisterError`` unless the plane is one of several.
        """
        whole = self.planes * self.channels
        if self.planes > 1 and self.plane is None:
            raise RegisterError(f"{name}: {self.planes} planes alternate in it; name one by --plane")
        plane = self.plane or 0
        if plane >= self.planes:
            raise NoPlane(name, f"has no plane {plane}", f"it has {self.planes}, counted from 0")
        first = plane * self.channels
        return tuple(
            tuple(range(start + first, start + first + self.channels))
            for start in range(0, count - whole + 1, whole)
        )

    def refuse_plane(self, path: object) -> None:
        """Raise ``NoPlane`` where another plane than the only one of a file is asked for."""
        if self.plane:
            raise NoPlane(path, f"has no plane {self.plane}", "it has one, 0")

    def refuse_fields(self, path: object, known: tuple[str, ...]) -> None:
        """Raise ``FileError`` where a field is set that only other formats have."""
        for name in ("dataset", "frame_size"):
            if getattr(self, name) is not None and name not in known:
                raise FileError(path, f"has no --{name.replace('_', '-')}", "leave it out")

    def at_plane(self, plane: int) -> "Layout":
        """The layout of a file of which one plane is read."""
        return replace(self, plane=plane)


class NoPlane(FileError):
    """A plane that a movie does not have was asked for."""


AS_STORED = Layout()


def sides(text: str | None) -> tuple[int, int] | None:
    """Width and height from ``512x512``. Raises ``RegisterError`` for another text."""
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d*)[x×]([1-9]\d*)", text.strip())
    if not match:
        raise RegisterError(f"--frame-size {text!r}: width and height in pixels, such as 512x512")
    return int(match[1]), int(match[2])


def plane_number(text: str | None) -> int | None:
    """The number of a plane from ``3`` or ``Z=3``. Raises ``RegisterError`` for another text."""
    if text is None:
        return None
    match = re.fullmatch(r"(?:[zZ]=)?(\d+)", text)
    if not match:
        raise RegisterError(f"--plane {text!r}: a number counted from 0, such as 3 or Z=3")
    return int(match[1])
