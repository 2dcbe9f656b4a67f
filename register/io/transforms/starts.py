"""Starts that other programs wrote: global transforms of ITK (.tfm, .txt) and elastix."""

import math
import re
from pathlib import Path

import torch
from torch import Tensor

from register.errors import FileError
from register.geometry.pixel_size import PixelSize, Sizes, comparable


def read_start(path: str | Path, sizes: Sizes = (None, None)) -> Tensor:
    """The matrix (2, 3) in pixels of a file with a 2-D affine, rigid, similarity or translation transform.

    The file's lengths are in the unit of the pixel ``sizes`` of the fixed and the moving image; they are pixels
    where a size is not known or the units differ. Raises ``FileError`` naming the file for anything else: a deformation, three dimensions, a chain.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(path, f"cannot be read as a transform ({error})") from None
    kind, values, centre = _elastix(path, text) if text.lstrip().startswith(("(", "//")) else _itk(path, text)
    try:
        linear, offset = _linear(kind, values, centre)
    except (KeyError, ValueError):
        raise FileError(
            path,
            f"is a {kind} of {len(values)} numbers",
            "a start is a 2-D affine, similarity, rigid (Euler) or translation",
        ) from None
    fixed, moving = comparable(sizes) or (PixelSize(1.0, 1.0), PixelSize(1.0, 1.0))
    up = torch.diag(1 / torch.tensor(moving.xy, dtype=torch.float64))
    down = torch.diag(torch.tensor(fixed.xy, dtype=torch.float64))
    matrix = torch.cat([up @ linear @ down, up @ offset[:, None]], 1)
    if not bool(torch.isfinite(matrix).all()) or float(torch.linalg.det(matrix[:, :2])) == 0:
        raise FileError(path, "holds no invertible map")
    return matrix


def _itk(path: str | Path, text: str) -> tuple[str, list[float], list[float]]:
    """Kind, parameters and centre of an ITK text file with one transform."""
    found = {
        key: re.findall(rf"^{key}:(.*)$", text, re.MULTILINE)
        for key in ("Transform", "Parameters", "FixedParameters")
    }
    if len(found["Transform"]) != 1 or len(found["Parameters"]) != 1:
        raise FileError(
            path, f"holds {len(found['Transform'])} ITK transforms", "one global transform makes a start"
        )
    kind = found["Transform"][0].strip().split("_")[0]
    return (
        kind,
        _numbers(path, found["Parameters"][0]),
        _numbers(path, (found["FixedParameters"] or [""])[0])[:2],
    )


def _elastix(path: str | Path, text: str) -> tuple[str, list[float], list[float]]:
    """Kind, parameters and centre of an elastix parameter file."""
    found = dict(re.findall(r"^\((\w+)\s+(.*?)\)\s*$", text, re.MULTILINE))
    initial = (
        found.get("InitialTransformParameterFileName")
        or found.get("InitialTransformParametersFileName")
        or "NoInitialTransform"
    )
    if initial.strip('"') != "NoInitialTransform":
        raise FileError(path, f"starts from another file ({initial})", "one global transform makes a start")
    kind = found.get("Transform", "").strip('"')
    return (
        kind,
        _numbers(path, found.get("TransformParameters", "")),
        _numbers(path, found.get("CenterOfRotationPoint", "0 0")),
    )


def _linear(kind: str, values: list[float], centre: list[float]) -> tuple[Tensor, Tensor]:
    """The linear part and the offset of y = A (x - c) + t + c; raises ``KeyError`` or ``ValueError`` for another kind or count."""
    if kind == "TranslationTransform":
        tx, ty = values
        parts = 1.0, 0.0, 0.0, 1.0
    elif kind in ("Euler2DTransform", "EulerTransform"):
        angle, tx, ty = values
        parts = math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)
    elif kind in ("Similarity2DTransform", "SimilarityTransform"):
        scale, angle, tx, ty = values
        parts = (
            scale * math.cos(angle),
            -scale * math.sin(angle),
            scale * math.sin(angle),
            scale * math.cos(angle),
        )
    elif kind in ("AffineTransform", "MatrixOffsetTransformBase"):
        *four, tx, ty = values
        parts = (four[0], four[1], four[2], four[3]) if len(four) == 4 else ()  # type: ignore[assignment]
    else:
        raise KeyError(kind)
    linear = torch.tensor(parts, dtype=torch.float64).reshape(2, 2)
    c = torch.tensor(centre or [0.0, 0.0], dtype=torch.float64)
    return linear, torch.tensor([tx, ty], dtype=torch.float64) + c - linear @ c


def _numbers(path: str | Path, text: str) -> list[float]:
    try:
        return [float(v) for v in text.split()]
    except ValueError:
        raise FileError(path, f"holds {text.strip()[:40]!r} where numbers are expected") from None
