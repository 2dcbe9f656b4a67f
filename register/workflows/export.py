"""``register export``: a transform in another program's format."""

from pathlib import Path

from register.errors import FileError
from register.files.atomic import refuse_existing, refuse_inputs
from register.io.transforms.export import export as write
from register.io.transforms.export_format import export_format
from register.transforms.movie import load_movie
from register.transforms.transform import Transform


def export(
    source: Path,
    form: str,
    output: Path,
    *,
    frame: int | None = None,
    spacing: float | None,
    tolerance: float,
    fixed_element: str | None = None,
    overwrite: bool = False,
) -> dict[str, object]:
    """Write a saved transform, or that of a ``frame`` of a movie, in the format ``form``; returns what was
    written.

    ``spacing`` is the distance of field samples, control points or knots in fixed pixels, ``tolerance`` the
    largest error of a fitted B-spline in pixels, ``fixed_element`` the element of the fixed image in the
    SpatialData that is extended. Raises ``FileError`` when the output exists or the format cannot hold it.
    """
    refuse_inputs(output, source)
    if not export_format(form).extends:
        refuse_existing(output, overwrite)
    report = write(
        _loaded(source, frame),
        form,
        output,
        spacing=spacing,
        tolerance=tolerance,
        fixed_element=fixed_element,
        overwrite=overwrite,
    )
    return {"format": form, "file": str(output), **report.values()}


def _loaded(source: Path, frame: int | None) -> Transform:
    """The transform of a JSON file, or of a frame of a movie. Raises ``FileError``."""
    if source.suffix.lower() != ".npz":
        if frame is not None:
            raise FileError(source, "is not a movie's transforms.npz", "leave --frame out")
        return Transform.load(source)
    movie = load_movie(source)
    if frame is None or frame >= len(movie):
        raise FileError(source, f"holds {len(movie)} frames", "name one by --frame, counted from 0")
    return movie[frame].checked()
