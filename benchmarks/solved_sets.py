"""Sections written to files and solved, as ``register group`` does."""

import time
from pathlib import Path

import tifffile

from benchmarks.sections import Section
from register import settings
from register.workflows import batch
from register.workflows.sets import images as inputs
from register.workflows.sets import solve as workflow


def written(made: list[Section], folder: Path) -> list[inputs.SetImage]:
    for number, one in enumerate(made):
        tifffile.imwrite(folder / f"s{number:03d}.tif", one.image)
    return inputs.listed([str(folder)])


def solved(
    images: list[inputs.SetImage], out: Path, preset: str, *, reference: str = "auto"
) -> tuple[workflow.Group, float]:
    chosen = settings.check(preset=preset, report=False)
    begin = time.perf_counter()
    options = workflow.GroupOptions(reference=reference)
    made = workflow.solve(
        images, out, chosen, options, lambda pairs: batch.sequential(str(out / "links")),
        tick=lambda one: print(f"  {one.id}: {one.verdict or one.error}", flush=True),
    )  # fmt: skip
    return made, time.perf_counter() - begin
