"""Export formats: one record per format, found through the registry ``register.registries.EXPORTS``."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from register.registries import EXPORTS
from register.transforms.transform import Transform


@dataclass(frozen=True)
class ExportOptions:
    """What the user may choose.

    ``spacing`` is the distance of field samples, control points or knots in fixed pixels; None leaves it to
    the format. ``tolerance`` is the largest error allowed to a fitted B-spline, or to a grid of which the
    spacing is not given, in moving pixels. For formats that extend a file, ``fixed_element`` is the element
    of the fixed image in it, and ``overwrite`` whether what is there may be replaced.
    """

    spacing: float | None = None
    tolerance: float = 0.01
    fixed_element: str | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class ExportReport:
    """What was written; None where a value does not apply to the format. Errors are in moving pixels.

    ``units`` are those of the file, ``model`` is the kind of transform. ``fit_error_max`` is the largest
    error of a fitted B-spline with ``knots`` (columns, rows), ``field_error_max`` that of linear
    interpolation between the samples of a displacement field. ``points`` is the number of control points,
    ``axes`` how they are oriented, ``version`` that of the format, and ``beside`` a second file.
    ``coordinate_systems`` are those in which the images lie together, ``note`` is what else there is to know.
    """

    units: str | None = None
    model: str | None = None
    fit_error_max: float | None = None
    knots: tuple[int, int] | None = None
    field_error_max: float | None = None
    points: int | None = None
    axes: str | None = None
    version: str | None = None
    beside: str | None = None
    coordinate_systems: tuple[str, ...] | None = None
    note: str | None = None

    def values(self) -> dict[str, object]:
        """The values that apply, by name."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


@dataclass(frozen=True)
class ExportFormat:
    """How transforms are written in one format.

    ``write(transform, path, options)`` writes the file or folder and returns what it wrote. ``suffix`` is
    the usual ending of the name, with the dot; ``needs`` is an optional library without which the format
    cannot be written. A format that ``extends`` adds to a file or folder that is there.
    """

    name: str
    suffix: str
    write: Callable[[Transform, Path, ExportOptions], ExportReport]
    needs: str | None = None
    extends: bool = False


def export_format(name: str) -> ExportFormat:
    """The format of a name. Raises ``RegisterError`` for a name that is not known."""
    return EXPORTS.typed(name, ExportFormat)
