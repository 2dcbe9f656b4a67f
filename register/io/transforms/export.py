"""Write a transform in another program's format."""

from importlib.util import find_spec
from pathlib import Path

from register.errors import RegisterError
from register.io.transforms.export_format import ExportOptions, ExportReport, export_format
from register.transforms.transform import Transform


def export(
    transform: Transform,
    name: str,
    path: Path,
    *,
    spacing: float | None = None,
    tolerance: float = 0.01,
    fixed_element: str | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Write ``transform`` in the format called ``name``, one of ``register.registries.EXPORTS``.

    ``spacing`` is the distance of field samples, control points or knots in fixed pixels (None: the format's
    own); ``tolerance`` is the largest error allowed to a fitted B-spline, in moving pixels. Of a SpatialData,
    ``fixed_element`` is the element of the fixed image (``images/he``), and ``overwrite`` replaces a
    transformation that is there. Raises ``RegisterError`` for an unknown format, a spacing that is not
    positive or a missing library, and ``TransformError`` when a B-spline does not reach the tolerance.
    """
    form = export_format(name)
    if spacing is not None and spacing <= 0:
        raise RegisterError(f"--spacing {spacing:g}: must be above 0")
    if form.needs and find_spec(form.needs) is None:
        raise RegisterError(
            f"--to {name} needs {form.needs}, which is not installed; pip install 'register-cli[export]'"
        )
    if fixed_element is not None and not form.extends:
        raise RegisterError(f"--fixed-element is for --to spatialdata, not for --to {name}")
    return form.write(transform, path, ExportOptions(spacing, tolerance, fixed_element, overwrite))
