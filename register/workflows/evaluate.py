"""``register evaluate``: landmark errors of a saved transform."""

from pathlib import Path
from typing import Any

import numpy as np

from register.engine.quality.landmarks import Evaluation, landmark_errors
from register.errors import FileError, RegisterError
from register.files.atomic import refuse_existing, refuse_inputs, write_text
from register.io.points.landmarks import read_bigwarp
from register.io.points.model import Points
from register.io.points.open import read_points
from register.transforms.quality import LandmarkSummary
from register.transforms.transform import Transform

HEADER = ",X,Y,moving X,moving Y,mapped X,mapped Y,IRE,TRE,rTRE"


def evaluate(
    transform: Transform,
    fixed: Path,
    moving: Path | None,
    table: Path | None = None,
    *,
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """The landmark errors of a transform, with BIRL's names; ``table`` is written with a row per landmark.

    Without ``moving``, ``fixed`` is a file of pairs, as BigWarp writes it. Raises ``FileError`` for
    files that cannot be read or hold different numbers of points, and for a table that exists already, unless
    it may be overwritten.
    """
    if table is not None:
        refuse_existing(table, overwrite)
        refuse_inputs(table, fixed, *([moving] if moving else []))
    points = (read_points(fixed), read_points(moving)) if moving else read_bigwarp(fixed)
    try:
        found = landmark_errors(transform, *points)
    except RegisterError as error:
        raise FileError(moving or fixed, str(error)) from None
    if table is not None:
        write_text(table, _table(points, found))
    summary = found.summary(seed)
    return dict(summary) | {"birl": _birl_names(summary)}


def _table(points: tuple[Points, Points], found: Evaluation) -> str:
    """A CSV with a row per landmark, in pixels; rTRE is relative to the diagonal of the fixed image."""
    columns = [*points, found.mapped, found.before[:, None], found.after[:, None]]
    lines = [HEADER]
    for number, row in enumerate(np.hstack(columns).tolist(), 1):
        values = ",".join(f"{value:.6f}" for value in row)
        lines.append(f"{number},{values},{row[-1] / found.diagonal:.9f}")
    return "\n".join(lines) + "\n"


def _birl_names(summary: LandmarkSummary) -> dict[str, float]:
    """The figures under the column names of the BIRL framework (Borovec et al. 2018)."""
    names = {"Median": "median", "Mean": "mean", "Max": "max"}
    values = {"TRE robustness": summary["robustness"]}
    for when, short in (("before", "IRE"), ("after", "TRE")):
        values |= {f"{short} {name}": summary[when]["tre"][key] for name, key in names.items()}
        values |= {f"r{short} {name}": summary[when]["rtre"][key] for name, key in names.items()}
    return values
