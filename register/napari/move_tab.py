"""The tab in which other layers are moved through the transform."""

from typing import Any

from magicgui.widgets import ComboBox, Container, PushButton
from napari.layers import Image, Labels, Points, Shapes

from register.errors import RegisterError
from register.napari.label import Words
from register.napari.layers import image_of
from register.napari.move import kind_of, moved
from register.napari.session import Session

TO_FIXED, TO_MOVING = "moving → fixed", "fixed → moving"
"""The directions."""


class MoveTab:
    """Moves points, shapes, labels and images from one image to the other."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.layer = ComboBox(name="layer", choices=self._layers, tooltip="the layer that is moved")
        self.direction = ComboBox(
            name="direction",
            choices=[TO_FIXED, TO_MOVING],
            tooltip="the image on which the layer lies, and that onto which it is moved",
        )
        self.button, self.words = PushButton(text="Move"), Words()
        self.container = Container(
            widgets=[Container(widgets=[self.layer, self.direction]), self.button, self.words.widget],
            labels=False,
        )
        for event in ("inserted", "removed", "reordered"):
            getattr(session.viewer.layers.events, event).connect(lambda _: self.layer.reset_choices())
        self.button.changed.connect(self.move)

    def _layers(self, _: Any) -> list[tuple[str, Any]]:
        kinds = Points, Shapes, Labels, Image
        return [(layer.name, layer) for layer in self.session.viewer.layers if isinstance(layer, kinds)]

    def move(self, _: Any = None) -> Any:
        """Add the moved layer and return it; None where that is not possible, which is said."""
        try:
            fixed, moving = self.session.layers()
            transform, layer = self.session.known(), self.layer.value
            if layer is None:
                raise RegisterError("choose a layer")
            image = image_of(layer, self.session.viewer) if kind_of(layer) in ("labels", "image") else None
            back = self.direction.value == TO_FIXED
            new = moved(layer, image, transform, fixed, moving, inverse=back)
        except RegisterError as error:
            self.words.text = str(error)
            return None
        self.words.text = ""
        return new.add_to(self.session.viewer)
