"""The pairs of a batch: one fixed image and a pattern, two folders, or a table."""

import csv
import glob
import io
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath

from register import settings
from register.errors import FileError, RegisterError
from register.files.remote import is_remote, names, read_text
from register.files.tables import plain
from register.io.images.reader import image_suffixes
from register.io.points.landmarks import LandmarkFiles
from register.settings import Settings
from register.workflows.ids import natural, stem, unique

BIRL = {
    "target image": "fixed",
    "source image": "moving",
    "target landmarks": "fixed_landmarks",
    "source landmarks": "moving_landmarks",
}
"""Columns of the BIRL framework (Borovec et al. 2018) and their names here."""
IGNORED = (
    "",
    "status",
    "image size [pixels]",
    "image diagonal [pixels]",
    "execution time [minutes]",
    "warped target landmarks",
    "warped source landmarks",
)
FILES = ("fixed", "moving", "fixed_mask", "moving_mask", "split_mask", "fixed_landmarks", "moving_landmarks")
LISTED = 5
"""Number of problems that a message lists."""


@dataclass(frozen=True)
class Pair:
    """One pair of a batch: its id, which names its folder, its files or addresses, and its settings.

    Of a ``brief`` one only the transform is written, and pictures where the verdict is not ok.
    """

    id: str
    fixed: str
    moving: str
    settings: Settings
    brief: bool = False


@dataclass(frozen=True)
class Pairing:
    """The pairs, and a sentence for each image without a partner or with several."""

    pairs: tuple[Pair, ...]
    problems: tuple[str, ...] = ()

    def checked(self, skip_unpaired: bool) -> "Pairing":
        """Return itself. Raises ``RegisterError`` for problems that are not skipped, and without any pair."""
        if self.problems and not skip_unpaired:
            more = f" and {len(self.problems) - LISTED} more" if len(self.problems) > LISTED else ""
            raise RegisterError(
                f"{'; '.join(self.problems[:LISTED])}{more}; use --skip-unpaired to leave them out"
            )
        if not self.pairs:
            raise RegisterError("no pair of images was found; check the names with --dry-run --skip-unpaired")
        return self


@dataclass(frozen=True)
class PairSource:
    """Where the pairs of a batch come from: one fixed image and a pattern, two folders, or a table.

    Exactly one of the three is given.
    """

    fixed: str | None = None
    moving: str | None = None
    fixed_dir: str | None = None
    moving_dir: str | None = None
    pattern: str | None = None
    table: str | None = None

    def alternatives(self) -> dict[str, tuple[str | None, ...]]:
        """The values of each source, by the names of its options."""
        return {
            "--fixed and --moving": (self.fixed, self.moving),
            "--fixed-dir and --moving-dir": (self.fixed_dir, self.moving_dir),
            "--pairs": (self.table,),
        }


def find_pairs(source: PairSource, chosen: Settings) -> Pairing:
    """The pairs that a source names, each with the settings. Raises ``RegisterError``."""
    if source.table:
        return table(source.table, chosen)
    if source.fixed_dir and source.moving_dir:
        return two_folders(source.fixed_dir, source.moving_dir, source.pattern, chosen)
    return one_reference(str(source.fixed), str(source.moving), chosen)


def one_reference(fixed: str, pattern: str, chosen: Settings) -> Pairing:
    """A fixed image with each image that matches a pattern, except itself."""
    found = names(pattern) if is_remote(pattern) else sorted(glob.glob(pattern, recursive=True))
    moving = [
        name
        for name in found
        if name != fixed and (is_remote(name) or Path(name).resolve() != Path(fixed).resolve())
    ]
    if not moving:
        raise RegisterError(f"--moving {pattern!r} matches no image")
    return Pairing(_with_ids((stem(name), fixed, name, chosen) for name in moving))


def two_folders(fixed: str, moving: str, pattern: str | None, chosen: Settings) -> Pairing:
    """Images of two folders that have equal keys.

    The key is a file's stem, or the text that the only named group of a pattern matches in its name. Raises
    ``RegisterError`` for a pattern that is not valid.
    """
    sides = [_keyed(folder, _key(pattern)) for folder in (fixed, moving)]
    problems, pairs = [], []
    for key in sorted(set(sides[0]) | set(sides[1]), key=natural):
        one, other = (side.get(key, []) for side in sides)
        if not one or not other:
            problems.append(f"{(one or other)[0]} has no partner in {moving if one else fixed}")
        elif len(one) > 1 or len(other) > 1:
            problems.append(f"{key!r} is ambiguous: {', '.join(one + other)}")
        else:
            pairs.append((key, one[0], other[0], chosen))
    return Pairing(_with_ids(pairs), tuple(problems))


def table(path: str, chosen: Settings) -> Pairing:
    """The rows of a CSV with columns fixed and moving, and optionally id, masks, landmarks and any setting.

    Paths are relative to the folder of the table. BIRL's column names are accepted. Raises ``FileError``
    naming the line that is wrong.
    """
    rows = [[plain(cell) for cell in row] for row in csv.reader(io.StringIO(read_text(path)))]
    header = [_column(name) for name in rows[0]] if rows else []
    _check_header(path, header)
    pairs = []
    for number, row in enumerate(rows[1:], start=2):
        cells = zip(header, (cell.strip() for cell in row), strict=False)
        values = {name: cell for name, cell in cells if cell and name not in IGNORED}
        if not any(cell.strip() for cell in row):
            continue
        for name in ("fixed", "moving"):
            if name not in values:
                raise FileError(path, f"line {number} names no {name} image")
        pairs.append(_from_row(path, number, values, chosen))
    return Pairing(_with_ids(pairs))


def _check_header(path: str, header: list[str]) -> None:
    """Raise ``FileError`` for a table without the columns fixed and moving, or with an unknown column."""
    if not {"fixed", "moving"} <= set(header):
        raise FileError(path, "has no columns fixed and moving", "its first line must name them")
    allowed = {*FILES, *IGNORED, "id", "landmarks", *(option.name for option in fields(Settings))}
    unknown = [name for name in header if name not in allowed]
    if unknown:
        raise FileError(
            path,
            f"has a column {unknown[0]!r}",
            "columns are fixed, moving, id, landmarks, and the options of `register align`",
        )


def _column(name: str) -> str:
    plain = name.strip().lower().removeprefix("\ufeff")
    return BIRL.get(plain, plain.replace("-", "_").removeprefix("__"))


def _from_row(
    path: str, number: int, values: dict[str, str], chosen: Settings
) -> tuple[str, str, str, Settings]:
    """Id, files and settings of one row."""
    values |= {name: beside(path, values[name]) for name in FILES if name in values}
    files = LandmarkFiles.parse(values.get("landmarks", ""))
    if files:
        values["landmarks"] = str(LandmarkFiles(beside(path, files.fixed), beside(path, files.moving)))
    fixed_landmarks, moving_landmarks = values.pop("fixed_landmarks", ""), values.pop("moving_landmarks", "")
    if fixed_landmarks and moving_landmarks:
        values["landmarks"] = str(LandmarkFiles(fixed_landmarks, moving_landmarks))
    fixed, moving = values.pop("fixed"), values.pop("moving")
    name = values.pop("id", "") or stem(moving)
    try:
        return name, fixed, moving, settings.check(**(asdict(chosen) | values))
    except RegisterError as error:
        raise FileError(path, f"line {number}: {error}") from None


def beside(table: str, name: str) -> str:
    """The path or address of a file that a table names relative to its own folder."""
    if is_remote(name) or Path(name).is_absolute():
        return name
    return f"{table.rsplit('/', 1)[0]}/{name}" if is_remote(table) else str(Path(table).parent / name)


def _with_ids(pairs: Iterable[tuple[str, str, str, Settings]]) -> tuple[Pair, ...]:
    """Pairs whose ids are names of folders and differ, made of names and of the folders of moving images."""
    made = list(pairs)
    ids = unique([name for name, *_ in made], [moving for _, _, moving, _ in made])
    return tuple(
        Pair(name, fixed, moving, chosen) for name, (_, fixed, moving, chosen) in zip(ids, made, strict=True)
    )


def _key(pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        made = re.compile(pattern)
    except re.error as error:
        raise RegisterError(f"--pair {pattern!r} is not a regular expression: {error}") from None
    if len(made.groupindex) != 1:
        raise RegisterError(f"--pair {pattern!r}: one named group is needed, such as (?P<key>\\d+)")
    return made


def _keyed(folder: str, key: re.Pattern[str] | None) -> dict[str, list[str]]:
    """The images of a folder by their key; those that the pattern does not match are left out."""
    if is_remote(folder):
        found = names(folder.rstrip("/") + "/*")
    else:
        if not Path(folder).is_dir():
            raise FileError(folder, "is not a folder", "check the path")
        found = sorted(str(path) for path in Path(folder).iterdir() if not path.name.startswith("."))
    keyed: dict[str, list[str]] = {}
    suffixes = image_suffixes()
    for name in found:
        last = PurePosixPath(name.replace("\\", "/")).name
        if not last.lower().endswith(suffixes):
            continue
        match = key.search(last) if key else None
        if key and not match:
            continue
        keyed.setdefault(match[next(iter(key.groupindex))] if key and match else stem(name), []).append(name)
    return keyed
