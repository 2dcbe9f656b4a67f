"""The transform file: JSON, version 1, checked on the way in and written whole."""

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from register.errors import FileError, TransformError
from register.files.atomic import write_text
from register.geometry.patch_grid import PatchGrid
from register.transforms.transform import Frame, Link, Transform

CONVENTION = "maps fixed (x, y) to moving (x, y); pixels, 0-based, pixel centres at integers; x right, y down"

Number = Annotated[float, Field(allow_inf_nan=False)]
Row = Annotated[list[Number], Field(min_length=3, max_length=3)]
Matrix = Annotated[list[Row], Field(min_length=2, max_length=2)]
Pair = Annotated[list[Number], Field(min_length=2, max_length=2)]
Step = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Open(BaseModel):
    """A part of the file; keys it does not know are kept."""

    model_config = ConfigDict(extra="allow")


class FrameFile(Open):
    """The pixel grid of an image."""

    path: str | None = None
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    pixel_size: Pair | None = None
    pixel_unit: str | None = None
    sha256: str | None = None


class GlobalFile(Open):
    """The global map, fixed to moving."""

    matrix: Matrix


class PatchesFile(Open):
    """The patch grid and its absolute affine maps, row by row, column fastest."""

    columns: int = Field(ge=2)
    rows: int = Field(ge=2)
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
    model: Literal["translation", "rigid", "similarity", "affine", "local", "chain"]
    global_: GlobalFile = Field(alias="global")
    patches: PatchesFile | None = None
    chain: list["LinkFile"] | None = None
    quality: dict[str, Any] = Field(default_factory=dict)
    provenance: dict[str, Any] = Field(default_factory=dict)


class LinkFile(Open):
    """One link of a chain: a whole transform, applied as it is or inverted."""

    inverse: bool
    transform: TransformFile


ENCODE = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
LISTS = ("confidence", "status", "similarity_before", "similarity_after", "expected_error")
KNOWN = {field.alias or name for name, field in TransformFile.model_fields.items()}


def schema() -> dict[str, Any]:
    """The JSON Schema that ships as ``transform.schema.json`` and that the reader checks against."""
    return TransformFile.model_json_schema(by_alias=True)


def read_transform(path: str | Path) -> Transform:
    """The checked transform in a file. Raises ``FileError`` naming the file and what is wrong with it."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        return from_dict(json.loads(text))
    except OSError as error:
        raise FileError(path, f"cannot be opened ({error.strerror})", "check the path") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise FileError(
            path,
            f"is not JSON ({str(error).splitlines()[0]})",
            "it should be a transform.json this program wrote",
        ) from None
    except TransformError as error:
        raise FileError(path, str(error)) from None


def write_transform(transform: Transform, path: str | Path) -> None:
    """Write the file, whole or not at all; two writes of one transform are the same bytes."""
    write_text(path, _text(to_dict(transform)) + "\n")


def to_dict(transform: Transform) -> dict[str, Any]:
    """The file's content as plain values."""
    grid, patches = transform.grid, None
    if grid is not None and transform.matrices is not None:
        patches = {
            "columns": grid.columns,
            "rows": grid.rows,
            "origin": list(grid.origin),
            "spacing": list(grid.spacing),
            "blend": "bilinear",
            "matrices": transform.matrices.reshape(-1, 2, 3).tolist(),
            **transform.patch_figures,
        }
    return {
        "format": "register-transform",
        "version": 1,
        "convention": CONVENTION,
        "fixed": _frame_to_dict(transform.fixed) | transform.extras.get("fixed", {}),
        "moving": _frame_to_dict(transform.moving) | transform.extras.get("moving", {}),
        "model": transform.model,
        "global": {"matrix": transform.matrix.tolist()} | transform.extras.get("global", {}),
        "patches": patches,
        **(
            {
                "chain": [
                    {"inverse": link.inverse, "transform": to_dict(link.transform)}
                    for link in transform.chain
                ]
            }
            if transform.chain
            else {}
        ),
        "quality": transform.quality,
        "provenance": transform.provenance,
    } | transform.extras.get("", {})


def from_dict(values: Any) -> Transform:
    """The checked transform of a file's content. Raises ``TransformError`` naming the key and what is wrong with it."""
    if not isinstance(values, dict) or values.get("format") != "register-transform":
        raise TransformError("is not a transform file: its key 'format' is not 'register-transform'")
    version = values.get("version")
    if isinstance(version, int) and version > 1:
        raise TransformError(
            f"has version {version}; this program reads version 1; install a newer register-cli"
        )
    try:
        file = TransformFile.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise TransformError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return _from_file(file).checked()


def _from_file(file: TransformFile) -> Transform:
    """The transform of a file that has the right form."""
    extras = {
        "": _extra(file),
        "fixed": _extra(file.fixed),
        "moving": _extra(file.moving),
        "global": _extra(file.global_),
    }
    grid, matrices, figures = _patches(file.patches)
    if (file.model == "chain") != bool(file.chain):
        raise TransformError("chain: the model 'chain', and no other, needs a list of at least one link")
    return Transform(
        model=file.model,
        fixed=_frame(file.fixed),
        moving=_frame(file.moving),
        matrix=torch.tensor(file.global_.matrix, dtype=torch.float64),
        grid=grid,
        matrices=matrices,
        chain=tuple(Link(_from_file(link.transform), link.inverse) for link in file.chain or ()),
        patch_figures=figures,
        quality=file.quality,
        provenance=file.provenance,
        extras=extras,
    )


def _patches(file: PatchesFile | None) -> tuple[PatchGrid | None, torch.Tensor | None, dict[str, list[Any]]]:
    """Grid, matrices (rows, columns, 2, 3) and the lists that go with them; raises ``TransformError`` for a wrong count."""
    if file is None:
        return None, None, {}
    count = file.columns * file.rows
    figures = {name: getattr(file, name) for name in LISTS if getattr(file, name) is not None}
    for name, values in {"matrices": file.matrices, **figures}.items():
        if len(values) != count:
            raise TransformError(
                f"patches.{name} has {len(values)} entries; {file.columns} columns by {file.rows} rows ask for {count}"
            )
    grid = PatchGrid(
        file.columns, file.rows, (file.origin[0], file.origin[1]), (file.spacing[0], file.spacing[1])
    )
    matrices = torch.tensor(file.matrices, dtype=torch.float64).reshape(file.rows, file.columns, 2, 3)
    return grid, matrices, figures | _extra(file)


def _extra(part: BaseModel) -> dict[str, Any]:
    return dict(part.model_extra or {})


def _frame(file: FrameFile) -> Frame:
    size = (file.pixel_size[0], file.pixel_size[1]) if file.pixel_size else None
    return Frame(file.width, file.height, size, file.pixel_unit, file.path, file.sha256)


def _frame_to_dict(frame: Frame) -> dict[str, Any]:
    return {
        "path": frame.path,
        "width": frame.width,
        "height": frame.height,
        "pixel_size": list(frame.pixel_size) if frame.pixel_size else None,
        "pixel_unit": frame.pixel_unit,
        "sha256": frame.sha256,
    }


def _text(value: Any, indent: str = "\n") -> str:
    """JSON with an item on each line, but for lists of plain numbers, which have one line; the library does that in Python, number by number."""
    deeper = f"{indent} "
    if isinstance(value, dict) and value:
        return (
            "{"
            + ",".join(f"{deeper}{ENCODE(key)}: {_text(item, deeper)}" for key, item in value.items())
            + indent
            + "}"
        )
    if not isinstance(value, list | tuple) or not value:
        return ENCODE(value)
    kinds = set(map(type, value))
    if kinds == {float} and all(map(math.isfinite, value)):
        return f"[ {', '.join(map(repr, value))} ]"
    if kinds & {list, tuple, dict, str}:
        return "[" + ",".join(deeper + _text(item, deeper) for item in value) + indent + "]"
    return f"[ {ENCODE(value)[1:-1]} ]"
