"""Which columns of a table hold coordinates: by their names in the tables of known programs, or as told."""

from collections.abc import Sequence
from dataclasses import dataclass

from register.errors import FileError

PIXELS, MAP = "px", "map"
SHOWN = 60
"""The number of characters of a line that a message quotes."""


@dataclass(frozen=True)
class Place:
    """The indices of the columns with x and y, the unit of the values, and whether (0, 0) is a corner.

    Columns of a box have two indices for each axis, the smaller value first.
    """

    x: tuple[int, ...]
    y: tuple[int, ...]
    unit: str = PIXELS
    corner: bool = False

    @property
    def corners(self) -> list[tuple[int, int]]:
        """The columns (x, y) of each point of a row: one, or the four corners of a box."""
        return [(x, y) for x in self.x for y in self.y]


@dataclass(frozen=True)
class Known:
    """The columns of a program's table; ``exact`` names must have the same case."""

    program: str
    x: tuple[str, ...]
    y: tuple[str, ...]
    unit: str = PIXELS
    corner: bool = False


KNOWN = (
    Known("Xenium", ("x_centroid",), ("y_centroid",), "µm", corner=True),
    Known("mcmicro", ("X_centroid",), ("Y_centroid",)),
    Known("QuPath", ("Centroid X µm",), ("Centroid Y µm",), "µm", corner=True),
    Known("QuPath", ("Centroid X um",), ("Centroid Y um",), "µm", corner=True),
    Known("QuPath", ("Centroid X px",), ("Centroid Y px",), corner=True),
    Known("Visium", ("pxl_col_in_fullres",), ("pxl_row_in_fullres",)),
    Known("HALO", ("XMin", "XMax"), ("YMin", "YMax"), corner=True),
)
"""Tables of other programs. Only the case of their names tells Xenium's micrometres from mcmicro's pixels."""


def place(path: object, header: Sequence[str], named: str | None = None, delimiter: str = ",") -> Place:
    """The columns with coordinates: those of ``named``, ``X,Y``, or of a known program, or ``x`` and ``y``.

    Of napari's ``axis-0``, ``axis-1``, … the last two are row and column. Raises ``FileError`` for columns
    that are not in the table; ``delimiter`` separates the names in its message.
    """
    names = [name.strip() for name in header]
    if named is not None:
        return _named(path, names, named)
    lower = [name.lower() for name in names]
    repeated = next((name for name in ("x", "y") if lower.count(name) > 1), None)
    if repeated:
        count = lower.count(repeated)
        raise FileError(path, f"has {count} columns called {repeated}", "name one of them: --columns X,Y")
    if "x" in lower and "y" in lower:
        return Place((lower.index("x"),), (lower.index("y"),))
    for known in KNOWN:
        if all(name in names for name in (*known.x, *known.y)):
            x, y = (tuple(names.index(name) for name in axis) for axis in (known.x, known.y))
            return Place(x, y, known.unit, known.corner)
    axes = sorted(name for name in lower if name.startswith("axis-"))
    if len(axes) >= 2:
        return Place((lower.index(axes[-1]),), (lower.index(axes[-2]),))
    shown = delimiter.join(names)[:SHOWN]
    raise FileError(
        path,
        f"has no columns x and y (its first line is {shown!r})",
        "add a header line with x and y, or name them: --columns X,Y",
    )


def _named(path: object, names: list[str], named: str) -> Place:
    """The columns that the user names."""
    wanted = [name.strip() for name in named.split(",")]
    if len(wanted) != 2 or not all(wanted):
        raise FileError(path, f"cannot be read by --columns {named}", "name two columns: --columns X,Y")
    missing = [name for name in wanted if name not in names]
    if missing:
        shown = ", ".join(names)[:200]
        raise FileError(path, f"has no column {missing[0]!r}", f"it has {shown}")
    return Place((names.index(wanted[0]),), (names.index(wanted[1]),))
