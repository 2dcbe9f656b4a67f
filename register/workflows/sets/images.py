"""The images of a set: files, folders and patterns, or a table; their ids, masks and channels."""

import csv
import glob
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from register.errors import FileError, RegisterError
from register.files.remote import is_remote, read_text
from register.io.images.reader import image_suffixes
from register.settings import Settings
from register.workflows.ids import natural, stem, unique
from register.workflows.pairs import Pair

COLUMNS = ("image", "id", "mask", "channel", "position")
RESERVED = ("links", "group.json", "summary.csv", "index.html")
"""Names in the folder of results that no image may have as its id."""


@dataclass(frozen=True)
class SetImage:
    """One image of a set: its id, its file or address, its mask, and the channel that is compared."""

    id: str
    path: str
    mask: str | None = None
    channel: str | None = None


def listed(sources: Sequence[str]) -> list[SetImage]:
    """The images of files, folders and patterns, those of each folder and pattern in natural order.

    Raises ``RegisterError`` for a source without an image, and for an image that is named twice.
    """
    found: list[str] = []
    for source in sources:
        found += _expanded(source)
    return _checked([SetImage(stem(name), name) for name in found])


def from_table(path: str) -> list[SetImage]:
    """The images of a CSV with the column ``image``, and optionally id, mask, channel and position.

    Paths are relative to the folder of the table. Images are sorted by their position (a number); without
    positions they have the order of the rows. Raises ``FileError`` naming the line that is wrong.
    """
    rows = list(csv.reader(io.StringIO(read_text(path))))
    header = [name.strip().lower().removeprefix("\ufeff") for name in rows[0]] if rows else []
    unknown = [name for name in header if name not in COLUMNS]
    if "image" not in header or unknown:
        why = f"has a column {unknown[0]!r}" if unknown else "has no column image"
        raise FileError(path, why, f"columns are {', '.join(COLUMNS)}")
    found: list[tuple[float, SetImage]] = []
    ids = set[str]()
    for number, row in enumerate(rows[1:], start=2):
        values = {name: cell.strip() for name, cell in zip(header, row, strict=False) if cell.strip()}
        if not values:
            continue
        if "image" not in values:
            raise FileError(path, f"line {number} names no image")
        try:
            position = float(values.get("position", number))
        except ValueError:
            raise FileError(path, f"line {number}: position {values['position']!r} is not a number") from None
        if values.get("id", "").lower() in ids:
            raise FileError(path, f"line {number}: the id {values['id']!r} is named twice", "name each once")
        ids |= {values["id"].lower()} if "id" in values else set()
        name = _beside(path, values["image"])
        mask = _beside(path, values["mask"]) if "mask" in values else None
        found.append((position, SetImage(values.get("id", stem(name)), name, mask, values.get("channel"))))
    if "position" in header:
        found.sort(key=lambda item: item[0])
    return _checked([image for _, image in found])


def link_pair(fixed: SetImage, moving: SetImage, chosen: Settings, *, mirrored: bool = False) -> Pair:
    """The pair of a link, with the masks and channels of both images."""
    settings = replace(
        chosen,
        fixed_mask=fixed.mask,
        moving_mask=moving.mask,
        fixed_channel=fixed.channel or chosen.fixed_channel,
        moving_channel=moving.channel or chosen.moving_channel,
        allow_flip=chosen.allow_flip or mirrored,
    )
    name = f"{fixed.id}--{moving.id}" + (".mirrored" if mirrored else "")
    return Pair(name, fixed.path, moving.path, settings, brief=True)


def _expanded(source: str) -> list[str]:
    """The images that a file, a folder or a pattern names."""
    if is_remote(source):
        raise RegisterError(f"{source}: a set needs local files; copy them first")
    path = Path(source)
    if path.is_dir() and path.suffix.lower() != ".zarr":
        suffixes = image_suffixes()
        inside = [x for x in path.iterdir() if not x.name.startswith(".")]
        found = [str(x) for x in inside if x.name.lower().endswith(suffixes)]
        if not found:
            raise FileError(source, "holds no image", "name a folder of images")
        return sorted(found, key=lambda name: natural(Path(name).name))
    if path.exists():
        return [source]
    found = sorted(glob.glob(source, recursive=True), key=lambda name: natural(Path(name).name))
    if not found:
        raise FileError(source, "does not exist and matches no image", "check the path")
    return found


def _checked(images: list[SetImage]) -> list[SetImage]:
    """The images with ids that differ. Raises ``RegisterError`` for fewer than two, or one named twice."""
    paths = [str(Path(image.path).resolve()) for image in images]
    twice = next(
        (image.path for image, path in zip(images, paths, strict=True) if paths.count(path) > 1), None
    )
    if twice is not None:
        raise RegisterError(f"{twice} is named twice")
    if len(images) < 2:
        raise RegisterError("a set needs at least two images")
    wanted = [f"image_{x.id}" if x.id.lower() in RESERVED else x.id for x in images]
    ids = unique(wanted, [image.path for image in images], "image")
    return [replace(image, id=name) for image, name in zip(images, ids, strict=True)]


def _beside(table: str, name: str) -> str:
    return name if Path(name).is_absolute() or is_remote(name) else str(Path(table).parent / name)
