"""``register export``: a transform in another program's format."""

from pathlib import Path

from register.files.atomic import refuse_existing, refuse_inputs
from register.io.transforms.export import export as write
from register.transforms.transform import Transform


def export(
    source: Path, form: str, output: Path, *, spacing: float | None, tolerance: float, overwrite: bool = False
) -> dict[str, object]:
    """Write a saved transform in the format ``form`` and return what was written.

    ``spacing`` is the distance of field samples, control points or knots in fixed pixels, ``tolerance`` the
    largest error of a fitted B-spline in pixels. Raises ``FileError`` when the output exists or the format
    cannot hold it.
    """
    refuse_inputs(output, source)
    refuse_existing(output, overwrite)
    report = write(Transform.load(source), form, output, spacing=spacing, tolerance=tolerance)
    return {"format": form, "file": str(output), **report.values()}
