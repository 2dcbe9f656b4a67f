"""The program's own file, of a frame of a movie: ``register export transforms.npz --frame N --to json``."""

from pathlib import Path

from register.io.transforms.export_format import ExportFormat, ExportOptions, ExportReport
from register.transforms.transform import Transform


def write(transform: Transform, path: Path, options: ExportOptions) -> ExportReport:
    """Write a ``transform.json``."""
    transform.save(path)
    return ExportReport(units="pixels", model=transform.model)


EXPORT = ExportFormat("json", ".json", write)
