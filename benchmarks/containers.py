"""One pair in many file formats, which must give the same transform.

    python -m benchmarks.containers FOLDER

``FOLDER`` holds ``fixed_NAME`` and ``moving_NAME`` files of the same two images. Prints the median and the
largest distance, over the fixed image, between each transform and that of ``gray.png``. Lossy formats are
marked.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from register import Transform, settings
from register.workflows import align

LOSSY = ("jpeg", "jpg")


def transform_of(fixed: Path, moving: Path) -> Transform:
    with tempfile.TemporaryDirectory() as scratch:
        return align.run(
            align.Job(fixed, moving, Path(scratch) / "out", settings.check())
        ).alignment.transform


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder with fixed_NAME and moving_NAME files")
    folder = parser.parse_args().folder
    names = sorted(path.name.removeprefix("fixed_") for path in folder.glob("fixed_*"))
    reference = transform_of(folder / "fixed_gray.png", folder / "moving_gray.png")
    x, y = (np.linspace(0, side - 1, 40) for side in (reference.fixed.width, reference.fixed.height))
    expected = reference.map_grid(x, y)
    for name in names:
        found = transform_of(folder / f"fixed_{name}", folder / f"moving_{name}")
        distance = np.linalg.norm(found.map_grid(x, y) - expected, axis=-1)
        grey = f"{found.quality['fixed_grey']} / {found.quality['moving_grey']}"
        lossy = " (lossy)" if any(word in name for word in LOSSY) else ""
        figures = f"median {np.median(distance):.4f} px, largest {distance.max():.4f} px"
        print(f"{name:26s} {figures}, {grey}, {found.quality['metric']}{lossy}", flush=True)


if __name__ == "__main__":
    main()
