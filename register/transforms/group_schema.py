"""``group.json``, version 1: what a set of images was brought to, with its JSON Schema."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from register.errors import FileError
from register.files.atomic import as_path
from register.files.json_text import parse_json
from register.transforms.schema import Json, Number, Pair

Verdict = Literal["ok", "suspect", "failed", "unknown"]
Size = Annotated[int, Field(gt=0)]


class Part(BaseModel):
    """An object of the file; unknown keys are kept."""

    model_config = ConfigDict(extra="allow")


class FrameFile(Part):
    """The pixel grid of a common frame."""

    width: Size
    height: Size
    pixel_size: Pair | None = None
    pixel_unit: str | None = None


class GroupFrameFile(Part):
    """The frame of one group, its reference image (null: none), and the ids of its images in order."""

    frame: FrameFile
    reference: str | None
    images: list[str]


class ImageFile(Part):
    """One image: its transform is a path relative to the file, null where there is none; ``group`` counts
    from 1 and is 0 for an image without one."""

    id: str
    path: str
    transform: str | None
    verdict: Verdict
    reasons: list[str]
    group: int = Field(ge=0)
    expected_error: Number | None = None


class LinkFile(Part):
    """One link. ``weight`` is its weight in the joint solution, 0 to 1; ``expected_error`` and ``residual``
    are in pixels of the moving image."""

    fixed: str
    moving: str
    verdict: Verdict
    reasons: list[str]
    weight: Annotated[float, Field(ge=0, le=1)]
    expected_error: Number | None
    residual: Number | None
    folder: str


class GroupFile(Part):
    """group.json, version 1. ``frame`` and ``reference`` are those of the first group."""

    format: Literal["register-group"]
    version: Literal[1]
    frame: FrameFile | None
    reference: str | None
    order: list[str]
    images: list[ImageFile]
    links: list[LinkFile]
    groups: list[GroupFrameFile]
    notes: list[str] = Field(default_factory=list)


def schema() -> Json:
    """The JSON Schema of the file, which is distributed as ``group.schema.json``."""
    return GroupFile.model_json_schema()


def checked(values: Json) -> GroupFile:
    """The content of a file from its JSON values. Raises ``ValueError`` naming the key that is wrong."""
    try:
        return GroupFile.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def read(path: str | Path) -> GroupFile:
    """The checked content of a ``group.json``. Raises ``FileError`` naming the file and what is wrong."""
    try:
        values = parse_json(as_path(path).read_text(encoding="utf-8"))
        version = values.get("version") if isinstance(values, dict) else None
        if isinstance(version, int) and version > 1:
            raise FileError(
                path, f"has version {version}; this program reads version 1", "install a newer register-cli"
            )
        return checked(values)
    except OSError as error:
        raise FileError(path, f"cannot be opened ({error.strerror})", "check the path") from None
    except ValueError as error:
        raise FileError(path, f"is not a group file ({error})", "it should be a group.json") from None
