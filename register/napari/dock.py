"""The dock widget of the plugin: align, landmarks, move layers."""

from typing import Any

import napari
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QScrollArea, QTabWidget

from register.napari.align_tab import AlignTab
from register.napari.landmarks_tab import LandmarksTab
from register.napari.move_tab import MoveTab
from register.napari.session import Session

SCROLL_BAR = 24
"""Pixels for a scroll bar and the border."""


class Dock:
    """The three tabs, which share one session, in the widget ``native``."""

    def __init__(self, viewer: Any) -> None:
        self.session = Session(viewer)
        self.align = AlignTab(self.session)
        self.landmarks = LandmarksTab(self.session, self.align.start)
        self.move = MoveTab(self.session)
        self.native = QTabWidget()
        for name, tab in (("Align", self.align), ("Landmarks", self.landmarks), ("Move layers", self.move)):
            area = QScrollArea()
            area.setWidgetResizable(True)
            area.setWidget(tab.container.native)
            area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
            area.setMinimumWidth(tab.container.native.minimumSizeHint().width() + SCROLL_BAR)
            self.native.addTab(area, name)
        self.native.register = self  # lives as long as its widget


def dock() -> Any:
    """The widget of the current viewer, as the manifest names it."""
    return Dock(napari.current_viewer()).native
