"""What the parts of the widget share: the viewer, the chosen layers and the transform."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from register.errors import RegisterError
from register.io.images.model import Image
from register.napari import results
from register.napari.layers import image_of, world_from
from register.napari.lazy import LayerData
from register.transforms.transform import Transform


@dataclass
class Session:
    """The viewer, the fixed and the moving image layer, and the transform between them.

    ``changed`` are called when a layer is chosen, or when there is another transform.
    """

    viewer: Any
    fixed: Any = None
    moving: Any = None
    transform: Transform | None = None
    changed: list[Callable[[], None]] = field(default_factory=list)
    made: list[Any] = field(default_factory=list)

    def choose(self, fixed: Any, moving: Any) -> None:
        """Choose the layers; a transform that belongs to other ones is forgotten."""
        if (fixed, moving) == (self.fixed, self.moving):
            return
        self.fixed, self.moving, self.transform, self.made = fixed, moving, None, []
        self._tell()

    def images(self) -> tuple[Image, Image]:
        """What both layers show. Raises ``RegisterError`` unless two layers are chosen."""
        if self.fixed is None or self.moving is None:
            raise RegisterError("choose a fixed and a moving layer")
        if self.fixed is self.moving:
            raise RegisterError("the fixed and the moving layer are the same; choose two")
        return image_of(self.fixed, self.viewer), image_of(self.moving, self.viewer)

    def layers(self) -> tuple[Any, Any]:
        """Both layers. Raises ``RegisterError`` where one is not chosen."""
        self.images()
        return self.fixed, self.moving

    def known(self) -> Transform:
        """The transform. Raises ``RegisterError`` where there is none."""
        if self.transform is None:
            raise RegisterError("there is no transform yet: align, or open one")
        return self.transform

    def show(self, transform: Transform, data: LayerData | None) -> None:
        """Take a transform and show it in place of the one before: the aligned layer, patches and errors.

        ``data`` is the resampled moving layer; without it the moving layer is placed by the global map.
        """
        self.layers()
        for layer in self.made:
            if layer in self.viewer.layers:
                self.viewer.layers.remove(layer)
        world = world_from(self.fixed)
        first = (
            results.affine_layer(transform, world, self.moving)
            if data is None
            else results.resampled_layer(transform, data, world, self.moving)
        )
        new = [first, *results.patch_layers(transform, world)]
        self.transform, self.made = transform, [layer.add_to(self.viewer) for layer in new]
        self.fixed.visible, self.moving.visible = True, False
        self.viewer.layers.selection.active = self.made[0]
        self._tell()

    @property
    def aligned(self) -> Any:
        """The aligned layer, or None where there is none any more."""
        layer = self.made[0] if self.made else None
        return layer if layer in self.viewer.layers else None

    def save(self, path: Path) -> None:
        """Write the transform; an existing file is replaced. Raises ``RegisterError`` without a transform."""
        self.known().save(path)

    def open(self, path: Path) -> Transform:
        """The transform of a file, for the chosen layers.

        Raises ``FileError``, and ``RegisterError`` where the layers have other sizes.
        """
        fixed, moving = self.images()
        transform = Transform.load(path)
        results.checked_size(transform, fixed, moving)
        return transform

    def _tell(self) -> None:
        for call in self.changed:
            call()
