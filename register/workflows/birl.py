"""``register batch --birl``: the results of a batch as a submission to the BIRL framework.

BIRL (Borovec et al. 2018, the framework of the ANHIR challenge) reads ``registration-results.csv``: the rows
of the cover table, completed by a file of landmarks and a time for each pair. Source landmarks are those of
the moving image; BIRL compares them, warped into the fixed image, with its target landmarks.
"""

import csv
import io
from dataclasses import dataclass, replace

from register.errors import FileError
from register.files import remote
from register.files.tables import plain, table_text
from register.io.points.landmarks import LandmarkFiles
from register.io.points.open import read_points
from register.transforms.transform import Transform
from register.workflows.batch import TRANSFORM, PairOutcome, store_text
from register.workflows.local_files import LocalFiles, local_files
from register.workflows.pairs import Pair, beside

RESULTS = "registration-results.csv"
LANDMARKS = "warped_source_landmarks.csv"
COVER = ("Target image", "Source image", "Target landmarks", "Source landmarks")
"""Columns by which BIRL recognises a pair."""
WARPED, MINUTES = "Warped source landmarks", "Execution time [minutes]"
EMPTY = ("warped ", MINUTES.lower())
"""How the columns begin, in lower case, that are empty in a cover table."""
DIGITS = 6
SECONDS = 60.0


@dataclass(frozen=True)
class Cover:
    """A cover table of BIRL: its path or address, its header and its rows, without empty ones."""

    path: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @classmethod
    def read(cls, path: str) -> "Cover":
        """Read a table. Raises ``FileError`` if it lacks a column of BIRL or names no source landmarks."""
        cells = [
            [plain(cell).strip() for cell in row] for row in csv.reader(io.StringIO(remote.read_text(path)))
        ]
        filled = [row for row in cells if any(row)]
        header = [name.removeprefix("\ufeff") for name in filled[0]] if filled else []
        missing = [name for name in COVER if name not in header]
        if missing:
            needed = ", ".join(COVER)
            raise FileError(path, f"has no column {missing[0]!r}", f"--birl needs the columns {needed}")
        rows = [tuple((row + [""] * len(header))[: len(header)]) for row in filled[1:]]
        for number, row in enumerate(rows, 2):
            if not row[header.index(COVER[3])]:
                raise FileError(path, f"row {number} names no source landmarks", "--birl warps them")
        return cls(path, tuple(header), tuple(rows))

    def source_landmarks(self, row: tuple[str, ...]) -> str:
        """The file or address of the source landmarks of a row."""
        return beside(self.path, row[self.header.index(COVER[3])])

    def kept(self) -> list[int]:
        """The columns that are not left to be filled in."""
        return [at for at, name in enumerate(self.header) if not name.lower().startswith(EMPTY)]


def with_landmarks_of_both(pairs: tuple[Pair, ...]) -> tuple[Pair, ...]:
    """The pairs, without landmarks to evaluate where the images do not have the same.

    Challenges withhold those of the target, and BIRL compares the first ones where numbers differ.
    """
    return tuple(
        pair if _both_have_them(pair) else replace(pair, settings=replace(pair.settings, landmarks=None))
        for pair in pairs
    )


def _both_have_them(pair: Pair) -> bool:
    files = LandmarkFiles.parse(pair.settings.landmarks or "")
    if files is None or not remote.exists(files.fixed):
        return False
    with local_files() as local:
        fixed, moving = (read_points(local.path(name)) for name in (files.fixed, files.moving))
    return len(fixed) == len(moving)


def write_results(cover: Cover, pairs: tuple[Pair, ...], outcomes: list[PairOutcome], output: str) -> str:
    """Write ``registration-results.csv`` and the warped landmarks of each finished pair.

    ``pairs`` are those of the rows of the cover. A pair with an error has no landmarks and no time, as BIRL
    expects. Returns the path of the table. Raises ``FileError`` for landmarks that cannot be read.
    """
    done = {one.id: one for one in outcomes if not one.error}
    kept, rows = cover.kept(), []
    with local_files() as local:
        for row, pair in zip(cover.rows, pairs, strict=True):
            warped, minutes = None, None
            if found := done.get(pair.id):
                warped = f"{pair.id}/{LANDMARKS}"
                text = _warped(cover.source_landmarks(row), f"{output}/{pair.id}/{TRANSFORM}", local)
                store_text(text, f"{output}/{warped}")
                minutes = None if found.seconds is None else round(found.seconds / SECONDS, DIGITS)
            rows.append([*(row[at] for at in kept), warped, minutes])
    header = [*(cover.header[at] for at in kept), WARPED, MINUTES]
    store_text(table_text(header, rows), f"{output}/{RESULTS}")
    return f"{output}/{RESULTS}"


def _warped(landmarks: str, transform: str, local: LocalFiles) -> str:
    """The landmarks (n, 2) of the moving image at their places in the fixed image, as BIRL's CSV."""
    points = read_points(local.path(landmarks))
    mapped = Transform.load(local.path(transform)).inverse().map(points)
    rows = ([at, *(round(float(value), DIGITS) for value in one)] for at, one in enumerate(mapped))
    return table_text(["", "X", "Y"], rows)
