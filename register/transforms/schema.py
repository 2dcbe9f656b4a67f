"""The transform file, version 1: its JSON Schema, how it is read and checked, and the layout of its text."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from register.errors import FileError, TransformError
from register.files.atomic import as_path, write_text
from register.files.json_text import parse_json
from register.registries import MODELS

CONVENTION = "maps fixed (x, y) to moving (x, y); pixels, 0-based, pixel centres at integers; x right, y down"

Json = dict[str, Any]
"""An object of the file."""
LARGEST = 1e9
"""The largest number of pixels, and of a matrix: more is damage, with which nothing can be computed."""
Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Bounded = Annotated[float, Field(allow_inf_nan=False, strict=True, ge=-LARGEST, le=LARGEST)]
Count = Annotated[int, Field(strict=True, gt=0, le=int(LARGEST))]
Row = Annotated[list[Bounded], Field(min_length=3, max_length=3)]
Matrix = Annotated[list[Row], Field(min_length=2, max_length=2)]
Pair = Annotated[list[Bounded], Field(min_length=2, max_length=2)]
Step = Annotated[float, Field(ge=1e-3, le=LARGEST, allow_inf_nan=False, strict=True)]
Side = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]


def models() -> tuple[str, ...]:
    """The models that a transform can have: global models, added ones too, patches, chains, and sides."""
    return (*MODELS.names(), "local", "chain", "split")


def _known_model(name: str) -> str:
    if name not in models():
        raise PydanticCustomError("model", "no model is called {name}", {"name": repr(name)})
    return name


Model = Annotated[str, AfterValidator(_known_model), Field(json_schema_extra={"enum": list(models())})]


class Open(BaseModel):
    """An object of the file; unknown keys are kept."""

    model_config = ConfigDict(extra="allow")

    def unknown(self) -> Json:
        """The keys that are not part of the format."""
        return dict(self.model_extra or {})


class FrameFile(Open):
    """The pixel grid of an image."""

    path: str | None = None
    width: Count
    height: Count
    pixel_size: Annotated[list[Side], Field(min_length=2, max_length=2)] | None = None
    pixel_unit: str | None = None
    sha256: str | None = None


class GlobalFile(Open):
    """The global map, fixed to moving."""

    matrix: Matrix


class PatchesFile(Open):
    """The patch grid and its absolute affine maps, row by row, column fastest."""

    columns: Annotated[Count, Field(ge=2)]
    rows: Annotated[Count, Field(ge=2)]
    origin: Pair
    spacing: Annotated[list[Step], Field(min_length=2, max_length=2)]
    blend: Literal["bilinear"]
    matrices: list[Matrix]
    confidence: list[Number] | None = None
    status: list[str] | None = None
    similarity_before: list[Number] | None = None
    similarity_after: list[Number] | None = None
    expected_error: list[Number | None] | None = None


class TransformFile(Open):
    """transform.json, version 1."""

    format: Literal["register-transform"]
    version: Literal[1]
    convention: str = CONVENTION
    fixed: FrameFile
    moving: FrameFile
    model: Model
    global_: GlobalFile = Field(alias="global")
    patches: PatchesFile | None = None
    chain: list["LinkFile"] | None = None
    sides: "SidesFile | None" = None
    quality: Json = Field(default_factory=dict)
    provenance: Json = Field(default_factory=dict)


class LinkFile(Open):
    """One link of a chain: a transform, applied forwards or inverted."""

    inverse: bool
    transform: TransformFile


class SidesFile(Open):
    """The sides of a discontinuity: a raster of labels over the fixed image as ``runs`` of label and length,
    row by row, and the complete transform of each side.

    The label k is the side k, counted from 1; -k is a cell of it that has no counterpart.
    """

    columns: Count
    rows: Count
    runs: list[Annotated[int, Field(strict=True, ge=-int(LARGEST), le=int(LARGEST))]]
    transforms: list[TransformFile]


ENCODE = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def schema() -> Json:
    """The JSON Schema of the file, which is distributed as ``transform.schema.json``."""
    return TransformFile.model_json_schema(by_alias=True)


def read(path: str | Path) -> TransformFile:
    """The checked content of a file. Raises ``FileError`` naming the file and what is wrong with it."""
    refuse_movie(path)
    try:
        return parse(parse_json(as_path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise FileError(path, f"cannot be opened ({error.strerror})", "check the path") from None
    except ValueError as error:
        why = f"is not JSON ({str(error).splitlines()[0]})"
        raise FileError(path, why, "it should be a transform.json this program wrote") from None
    except (TransformError, RecursionError) as error:
        raise FileError(path, str(error)) from None


def refuse_movie(path: str | Path) -> None:
    """Raise ``FileError`` for the transforms of a movie, of which one frame is needed."""
    if str(path).lower().endswith(".npz"):
        advice = "write that of one frame by register export --to json --frame N, and use it"
        raise FileError(path, "holds the transforms of a movie", advice)


def parse(values: object) -> TransformFile:
    """The checked content of a file from its JSON values.

    Raises ``TransformError`` naming the key and what is wrong with it.
    """
    if not isinstance(values, dict) or values.get("format") != "register-transform":
        raise TransformError("is not a transform file: its key 'format' is not 'register-transform'")
    version = values.get("version")
    if isinstance(version, bool):
        raise TransformError("version: it is true or false, not a number")
    if isinstance(version, int) and version > 1:
        raise TransformError(
            f"has version {version}; this program reads version 1; install a newer register-cli"
        )
    try:
        file = TransformFile.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise TransformError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    _check_chain(file)
    return file


def _check_chain(file: TransformFile) -> None:
    """Raise ``TransformError`` when a chain has no links, a split no sides, or another model has some, at any
    depth."""
    if (file.model == "chain") != bool(file.chain):
        raise TransformError("chain: the model 'chain', and no other, needs a list of at least one link")
    if (file.model == "split") != (file.sides is not None):
        raise TransformError("sides: the model 'split', and no other, needs them")
    for link in file.chain or ():
        _check_chain(link.transform)
    for side in file.sides.transforms if file.sides else ():
        if side.model in ("chain", "split"):
            raise TransformError(f"sides: the transform of a side is of the model {side.model!r}")
        _check_chain(side)


def write(values: Mapping[str, Any], path: str | Path) -> None:
    """Write the values of a transform atomically; writing the same values again gives the same bytes."""
    write_text(path, text(values) + "\n")


def text(value: Any, indent: str = "\n") -> str:
    """JSON text with one item per line; a list of plain numbers has one line.

    The standard library's encoder writes one number per line when it indents, and does so in Python.
    """
    deeper = f"{indent} "
    if isinstance(value, Mapping) and value:
        items = (f"{deeper}{ENCODE(key)}: {text(item, deeper)}" for key, item in value.items())
        return "{" + ",".join(items) + indent + "}"
    if isinstance(value, Mapping):
        return "{}"
    if not isinstance(value, list | tuple) or not value:
        return ENCODE(value)
    kinds = set(map(type, value))
    if kinds == {float} and all(map(math.isfinite, value)):
        return f"[ {', '.join(map(repr, value))} ]"
    if any(issubclass(kind, list | tuple | Mapping | str) for kind in kinds):
        return "[" + ",".join(deeper + text(item, deeper) for item in value) + indent + "]"
    return f"[ {ENCODE(value)[1:-1]} ]"
