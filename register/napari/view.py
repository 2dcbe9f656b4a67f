"""Open a result of ``register`` in napari."""

from pathlib import Path
from typing import Any

import napari

from register.napari.dock import Dock
from register.napari.files import KINDS, compared, layers_of, opened, transform_file
from register.transforms.transform import Transform


def show(target: Path, viewer: Any = None) -> Any:
    """A viewer with both images of a result, the aligned image and the dock widget. It is not run.

    ``target`` is a folder of results or a transform. Raises ``FileError`` for a file that is missing or does
    not belong to the transform.
    """
    path = transform_file(target)
    transform = Transform.load(path)
    images = [layers_of(opened(transform, path.parent, kind), kind) for kind in KINDS]
    viewer = viewer or napari.Viewer(title=f"register: {target}")
    chosen = []
    greys = transform.quality.fixed_grey, transform.quality.moving_grey
    for new, grey in zip(images, greys, strict=True):
        layers = [layer.add_to(viewer) for layer in new]
        chosen.append(layers[compared(new, grey)])
    widget = Dock(viewer)
    viewer.window.add_dock_widget(widget.native, name="register")
    widget.align.fixed.value, widget.align.moving.value = chosen
    widget.align.open(path)
    viewer.reset_view()
    return viewer


def run(target: Path) -> None:
    """Show a result and wait until the viewer is closed. Raises ``FileError``."""
    show(target)
    napari.run()
