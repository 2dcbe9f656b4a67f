"""A label of rich text that is as high as its text."""

from typing import Any

from magicgui.widgets import Label
from qtpy.QtCore import Qt

WIDTH = 280
"""The width in pixels of a label that is not shown yet."""


class Words:
    """A label that breaks its lines; ``widget`` is that of magicgui."""

    def __init__(self, text: str = "") -> None:
        self.widget: Any = Label(value="")
        self.widget.native.setWordWrap(True)
        self.widget.native.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.text = text

    @property
    def text(self) -> str:
        """The text, which may be rich."""
        return str(self.widget.value)

    @text.setter
    def text(self, text: str) -> None:
        label = self.widget.native
        self.widget.value = text
        width = label.width() if label.isVisible() else WIDTH
        label.setMinimumHeight(label.heightForWidth(width) if text else 0)
