"""The tab in which landmarks are added, renamed, removed, checked and held."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from magicgui.widgets import CheckBox, Container, PushButton
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractItemView, QFileDialog, QTableWidget, QTableWidgetItem

from register.errors import RegisterError
from register.io.points.landmarks import Landmarks
from register.napari import landmarks
from register.napari.label import Words
from register.napari.landmarks import Row
from register.napari.session import Session

HEADS = "name", "fixed", "moving", "residual px"
WIDTHS = 60, 85, 85
"""Widths of the first columns in pixels."""
HELP = (
    "Add a point to the fixed image, then the same place in the moving image, and so on. Names can be "
    "changed in the table."
)


class LandmarksTab:
    """Two layers of points, and the table of their pairs. ``align`` aligns with landmarks that hold."""

    def __init__(self, session: Session, align: Callable[[Landmarks], None]) -> None:
        self.session, self.align = session, align
        self.layers: tuple[Any, Any] | None = None
        self.rows: list[Row] = []
        self.busy = False
        self.begin, self.remove = PushButton(text="Mark landmarks"), PushButton(text="Remove selected")
        self.again = PushButton(text="Align again with these")
        self.load, self.save = PushButton(text="Load…"), PushButton(text="Save…")
        self.in_turn = CheckBox(text="show the image that is marked, alone", value=True)
        self.words = Words(HELP)
        self.table = QTableWidget(0, len(HEADS))
        self.table.setHorizontalHeaderLabels(HEADS)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.horizontalHeader().setStretchLastSection(True)
        self.table.verticalHeader().hide()
        for column, width in enumerate(WIDTHS):
            self.table.setColumnWidth(column, width)
        self.container = Container(
            widgets=[self.words.widget, self.in_turn, self._row(self.begin, self.remove)], labels=False
        )
        self.container.native.layout().addWidget(self.table)
        self.container.native.layout().addWidget(self._row(self.again).native)
        self.container.native.layout().addWidget(self._row(self.load, self.save).native)
        self._connect()

    def _row(self, *widgets: Any) -> Any:
        row = Container(widgets=list(widgets), layout="horizontal", labels=False)
        self._rows = [*getattr(self, "_rows", []), row]  # kept alive
        return row

    def _connect(self) -> None:
        self.begin.changed.connect(lambda: self._try(self.mark))
        self.remove.changed.connect(lambda: self._try(self.remove_selected))
        self.again.changed.connect(lambda: self._try(self.hold))
        self.load.changed.connect(lambda: self._ask("Folder of the landmarks", self.load_from))
        self.save.changed.connect(lambda: self._ask("Folder for the landmarks", self.save_to))
        self.table.itemChanged.connect(self._renamed)
        self.session.changed.append(self.refresh)
        self.session.viewer.layers.events.removed.connect(self._forget)

    def mark(self) -> None:
        """Add the layers of landmarks if they are missing, and begin to mark the fixed image."""
        images = self.session.layers()
        if self.layers is None:
            new = [
                landmarks.new_layer(kind, image)
                for kind, image in zip(landmarks.COLOURS, images, strict=True)
            ]
            one, other = (layer.add_to(self.session.viewer) for layer in new)
            for layer in (one, other):
                layer.events.data.connect(self._changed)
            self.layers = one, other
        self._turn_to(0)

    def _turn_to(self, which: int) -> None:
        """Let the next click mark the fixed (0) or the moving image (1)."""
        if self.layers is None:
            return
        self.session.viewer.layers.selection.active = self.layers[which]
        self.layers[which].mode = "add"
        if self.in_turn.value:
            for n, image in enumerate(self.session.layers()):
                image.visible = self.layers[n].visible = n == which
            for layer in self.session.made:
                layer.visible = False

    def _changed(self, event: Any) -> None:
        """Name a new point, and let the other image be marked next."""
        if self.layers is None or self.busy or str(getattr(event, "action", "")).endswith("ING"):
            return
        which = 0 if event.source is self.layers[0] else 1
        one, other = self.layers[which], self.layers[1 - which]
        self.busy = True
        before = landmarks.names(one)
        landmarks.name_new(one, other)
        self.busy = False
        if landmarks.names(one) != before and len(one.data) > len(other.data):
            self._turn_to(1 - which)
        elif landmarks.names(one) != before:
            self._turn_to(0)
        self.refresh()

    def _forget(self, event: Any) -> None:
        """Forget the layers if one of them was removed."""
        if self.layers is not None and event.value in self.layers:
            self.layers = None
            self.refresh()

    def refresh(self) -> None:
        """Fill the table."""
        self.rows = []
        if self.layers is not None and self.session.fixed is not None and self.session.moving is not None:
            images = self.session.fixed, self.session.moving
            self.rows = landmarks.rows(self.layers, images, self.session.transform)
        self.busy = True
        self.table.setRowCount(len(self.rows))
        for number, row in enumerate(self.rows):
            for column, text in enumerate(_cells(row)):
                item = QTableWidgetItem(text)
                if column:
                    item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEditable)
                self.table.setItem(number, column, item)
        self.busy = False

    def _renamed(self, item: Any) -> None:
        """Rename a landmark whose name was edited in the table."""
        if self.busy or item.column() or self.layers is None:
            return
        layers, old, new = self.layers, self.rows[item.row()].name, item.text()
        if new != old:
            self._try(lambda: landmarks.rename(layers, old, new))
        self.refresh()

    def remove_selected(self) -> None:
        """Remove the landmarks of the selected rows."""
        chosen = {self.rows[index.row()].name for index in self.table.selectionModel().selectedRows()}
        if self.layers is None or not chosen:
            raise RegisterError("select rows of the table first")
        landmarks.remove(self.layers, chosen)
        self.refresh()

    def hold(self) -> None:
        """Align again with all landmarks that have both points."""
        self.refresh()
        self.align(landmarks.pairs(self.rows))

    def load_from(self, folder: Path) -> None:
        """Load the landmarks that were saved into a folder."""
        text = landmarks.read_folder(folder)
        self.mark()
        if self.layers is not None:
            self.busy = True
            try:
                landmarks.load(text, self.layers, self.session.layers())
            finally:
                self.busy = False
        self.refresh()

    def save_to(self, folder: Path) -> None:
        """Save the landmarks into a folder."""
        paths = landmarks.save(self.rows, folder)
        self.words.text = f"saved as {paths[0].name} and {paths[1].name} in {folder}"

    def _ask(self, title: str, then: Callable[[Path], None]) -> None:
        name = QFileDialog.getExistingDirectory(self.container.native, title)
        if name:
            self._try(lambda: then(Path(name)))

    def _try(self, do: Callable[[], None]) -> None:
        """Do something, or say why not."""
        try:
            self.words.text = HELP
            do()
        except RegisterError as error:
            self.words.text = str(error)


def _cells(row: Row) -> tuple[str, str, str, str]:
    """The texts of a row of the table."""
    one, other = (f"{p[0]:.1f}, {p[1]:.1f}" if p else "missing" for p in (row.fixed, row.moving))
    residual = "" if row.residual is None else f"{row.residual:.2f}"
    return row.name, one, other, residual + (" not used: check it" if row.kept is False else "")
