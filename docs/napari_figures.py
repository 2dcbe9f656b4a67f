"""Take the pictures of ``how-to/napari.md`` in a real viewer: ``python -m docs.napari_figures``.

It needs a screen; ``xvfb-run -s "-screen 0 1600x1100x24"`` before the command gives one.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image as Picture
from qtpy.QtWidgets import QApplication

from register import settings
from register.napari import view
from register.workflows.align import Job, run

ROOT = Path(__file__).parent.parent
OUT = ROOT / "docs" / "images"
SAMPLES = ROOT / "sample_images"
SIZE = 1280, 860
CHOSEN = [1, 20, 40]
"""Landmarks of the sample that are shown."""


def picture(viewer: object, name: str) -> None:
    """Save what the window shows."""
    QApplication.processEvents()
    shown = viewer.screenshot(canvas_only=False, flash=False)[..., :3]
    Picture.fromarray(shown).quantize(256).save(OUT / f"napari-{name}.png", optimize=True)


def main() -> None:
    with TemporaryDirectory() as folder:
        pair = SAMPLES / "tissue_fixed.png", SAMPLES / "tissue_moving.png"
        run(Job(*pair, Path(folder) / "aligned", settings.check(preset="fast", report=False)))
        viewer = view.show(Path(folder) / "aligned")
        viewer.window.resize(*SIZE)
        QApplication.processEvents()
        viewer.reset_view()
        dock = next(iter(viewer.window.dock_widgets.values())).register
        dock.align.overlay.colours.value = True
        picture(viewer, "align")
        picture(viewer, "align")  # with the sizes of the first one
        dock.align.overlay.colours.value = False
        dock.native.setCurrentIndex(1)
        dock.landmarks.mark()
        points = [np.loadtxt(SAMPLES / f"tissue_landmarks_{x}.csv", delimiter=",", skiprows=1)[CHOSEN]
                  for x in ("fixed", "moving")]  # fmt: skip
        for both in zip(*points, strict=True):
            for layer, point in zip(dock.landmarks.layers, both, strict=True):
                layer.add(point[::-1])
        picture(viewer, "landmarks")
        picture(viewer, "landmarks")
        viewer.close()


if __name__ == "__main__":
    main()
