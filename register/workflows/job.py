"""A job: the files of one pair, the folder for the results and the settings; and the files that it writes."""

import os
from dataclasses import dataclass
from pathlib import Path

from register.errors import FileError
from register.files.atomic import is_unfinished, refuse_inputs
from register.io.images.model import Image
from register.io.images.open import aligned_name, is_written, stored
from register.io.images.reader import image_suffixes
from register.settings import Settings
from register.workflows.settings_files import files_of

RESULTS = (
    "aligned.tif",
    "aligned.ome.tif",
    "aligned.ome.zarr",
    "aligned.png",
    "transform.json",
    "overlay.png",
    "valid.tif",
    "occluded.tif",
    "residual.tif",
    "report.html",
)
"""Names of all files that an alignment may write into its folder."""


@dataclass(frozen=True)
class Job:
    """One pair: the files of the fixed and the moving image, the folder for the results, and the settings.

    Where the files are local copies of remote ones, ``names`` are the addresses of the images, and ``asked``
    the settings with the addresses of masks, landmarks and initial maps. Of a ``brief`` job only the
    transform is written, and pictures where the verdict is not ok.
    """

    fixed: Path
    moving: Path
    output: Path
    settings: Settings
    overwrite: bool = False
    names: tuple[str, str] | None = None
    asked: Settings | None = None
    brief: bool = False


def check_folder(output: str | Path) -> None:
    """Raise ``FileError`` for a folder of results that has the ending of an image file.

    An existing folder may have any name.
    """
    path = Path(output)
    if not path.is_dir() and (is_written(path) or path.suffix.lower() in image_suffixes()):
        raise FileError(output, "has the ending of an image, and there are several results", "name a folder")


def refuse_overwrite(job: Job) -> None:
    """Raise ``FileError`` unless the output is a writable folder without results, or with ``overwrite``."""
    if job.output.exists() and not job.output.is_dir():
        raise FileError(job.output, "is a file, not a folder", "choose another --output")
    named = [Path(x) for files in files_of(job.settings).values() for x in files]
    chosen = job.settings
    wanted = {"valid.tif": chosen.valid_mask, "report.html": chosen.report} | {
        "occluded.tif": chosen.occlusion_mask, "residual.tif": chosen.residual_map
    }  # fmt: skip
    unwritten = [name for name, is_wanted in wanted.items() if not is_wanted]
    for name in RESULTS:
        if (job.output / name).exists():
            refuse_inputs(job.output / name, job.fixed, job.moving, *(named if name not in unwritten else []))
    folder = next(path for path in [job.output, *job.output.absolute().parents] if path.exists())
    if not os.access(folder, os.W_OK) or not folder.is_dir():
        raise FileError(job.output, "cannot be written (no permission)", "choose another --output")
    found = [name for name in RESULTS if (job.output / name).exists()]
    if found and not job.overwrite and not is_unfinished(job.output):
        raise FileError(
            job.output, f"already holds {', '.join(found)}", "use --overwrite or another --output"
        )


def output_files(job: Job, moving: Image) -> dict[str, Path]:
    """The files that a job writes, by their role."""
    if job.brief:
        names = {"transform": "transform.json", "overlay": "overlay.png", "report": "report.html"}
        return {role: job.output / name for role, name in names.items()}
    chosen = job.settings
    aligned = aligned_name(moving, stored(chosen.aligned_format, chosen.compression, chosen.pyramid))
    names = {"aligned": aligned, "transform": "transform.json", "overlay": "overlay.png"}
    if job.settings.report:
        names["report"] = "report.html"
    if job.settings.valid_mask:
        names["valid"] = "valid.tif"
    if job.settings.occlusion_mask:
        names["occluded"] = "occluded.tif"
    if job.settings.residual_map:
        names["residual"] = "residual.tif"
    return {role: job.output / name for role, name in names.items()}
