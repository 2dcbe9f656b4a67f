"""Snakemake wrapper of ``register align``."""

__author__ = "The register developers"
__license__ = "Apache-2.0"

import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

FAILED = 3  # exit code: written, and the verdict is failed
FORMATS = {".ome.tif": "ome-tiff", ".ome.tiff": "ome-tiff", ".ome.zarr": "ome-zarr", ".png": "png"}
FORMATS |= {".tif": "tiff", ".tiff": "tiff"}
snakemake = globals()["snakemake"]  # Snakemake provides it


def image_format(name):
    """The ``--format`` of the aligned image by the ending of its name."""
    for ending, form in FORMATS.items():
        if name.lower().endswith(ending):
            return form
    raise ValueError(f"output.aligned {name!r} must end with one of {', '.join(FORMATS)}")


def command(folder):
    """The command line that writes all results into a folder."""
    words = ["register", "align", snakemake.input.fixed, snakemake.input.moving, "-o", folder, "--quiet"]
    words += ["--threads", str(snakemake.threads)]
    for name in ("fixed_mask", "moving_mask"):
        if mask := snakemake.input.get(name):
            words += [f"--{name.replace('_', '-')}", mask]
    if aligned := snakemake.output.get("aligned"):
        words += ["--format", image_format(aligned)]
    if not snakemake.output.get("report"):
        words.append("--no-report")
    extra = snakemake.params.get("extra", "")
    return f"{shlex.join(words)} {extra}"


with tempfile.TemporaryDirectory(dir=Path(snakemake.output.transform).parent) as scratch:
    results = Path(scratch) / "results"
    log = snakemake.log_fmt_shell(stdout=True, stderr=True)
    code = subprocess.call(["bash", "-c", f"{command(str(results))} {log}"])
    if code and not (code == FAILED and snakemake.params.get("keep_failed", False)):
        raise SystemExit(code)
    for role in ("aligned", "overlay", "report", "transform"):
        if wanted := snakemake.output.get(role):
            (written,) = results.glob(f"{role}.*")
            shutil.move(written, wanted)
