"""The tab in which two layers are chosen and aligned."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from magicgui.widgets import CheckBox, ComboBox, Container, Label, ProgressBar, PushButton
from napari.layers import Image as ImageLayer
from napari.layers import Labels
from napari.qt.threading import create_worker
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog

from register.errors import RegisterError
from register.geometry import models
from register.images.pixels import Pixels
from register.io.images.model import Image
from register.io.points.landmarks import Landmarks
from register.napari import settings_form, words
from register.napari.job import Outcome, Progress, Request, run
from register.napari.label import Words
from register.napari.layers import image_of
from register.napari.lazy import LayerData, resampled
from register.napari.overlay import Overlay
from register.napari.session import Session
from register.settings import Settings
from register.transforms.transform import Transform
from register.workflows.aligned_image import fill_value

RESAMPLED, BY_AFFINE = "resampled", "its affine only"
"""How the aligned layer is made: by resampling, or as the moving layer with the global map as ``affine``."""
POLLED = 100
"""Milliseconds between looks at the progress."""


class AlignTab:
    """Chooses layers and settings, aligns in a thread, and shows the result."""

    def __init__(self, session: Session) -> None:
        self.session, self.progress = session, Progress()
        self.worker: Any = None
        self.fixed = self._layers("fixed", ImageLayer, "the image that stays")
        self.moving = self._layers("moving", ImageLayer, "the image that is aligned")
        self.fixed_mask = self._layers("fixed_mask", Labels, "labels where the fixed image counts", True)
        self.moving_mask = self._layers("moving_mask", Labels, "labels where the moving image counts", True)
        offered = settings_form.offered()
        first = len(settings_form.FIRST)
        self.first, self.more = settings_form.form(offered[:first]), settings_form.form(offered[first:])
        self.more.visible = False
        self.style = ComboBox(
            name="aligned layer",
            choices=[RESAMPLED, BY_AFFINE],
            tooltip="A global model gives the moving layer an affine and copies nothing.",
        )
        self.all_settings = CheckBox(text="all settings", value=False)
        self.align_button, self.cancel_button = PushButton(text="Align"), PushButton(text="Cancel")
        self.bar, self.stage = ProgressBar(min=0, max=100, value=0, name="progress"), Label(value="")
        self.overlay = Overlay(session)
        self.open_button = PushButton(text="Open transform…")
        self.save_button = PushButton(text="Save transform…")
        self.words = Words()
        self.timer = QTimer()
        self.timer.timeout.connect(self._look)
        self.container = self._container()
        self._connect()
        self._choose()

    def _layers(self, name: str, kind: Any, tooltip: str, optional: bool = False) -> Any:
        """A choice among the layers of a kind."""
        layers = self.session.viewer.layers

        def choices(_: Any) -> list[tuple[str, Any]]:
            found = [(layer.name, layer) for layer in layers if isinstance(layer, kind)]
            return ([("none", None)] if optional else []) + found

        return ComboBox(name=name, label=name.replace("_", " "), choices=choices, tooltip=tooltip)

    def _container(self) -> Any:
        def row(*widgets: Any) -> Any:
            return Container(widgets=list(widgets), layout="horizontal", labels=False)

        layers = Container(widgets=[self.fixed, self.moving, self.fixed_mask, self.moving_mask])
        results = Container(widgets=[self.style])
        return Container(
            widgets=[
                layers,
                self.first,
                self.all_settings,
                self.more,
                results,
                row(self.align_button, self.cancel_button),
                self.bar,
                self.stage,
                self.words.widget,
                self.overlay.container,
                row(self.open_button, self.save_button),
            ],
            labels=False,
        )

    def _connect(self) -> None:
        for event in ("inserted", "removed", "reordered"):
            getattr(self.session.viewer.layers.events, event).connect(self.reset)
        for widget in (self.fixed, self.moving):
            widget.changed.connect(self._choose)
        self.all_settings.changed.connect(lambda on: setattr(self.more, "visible", on))
        self.align_button.changed.connect(lambda: self.start())
        self.cancel_button.changed.connect(self.cancel)
        self.cancel_button.enabled = False
        self.open_button.changed.connect(lambda: self._ask(QFileDialog.getOpenFileName, self.open))
        self.save_button.changed.connect(lambda: self._ask(QFileDialog.getSaveFileName, self.save))
        self.session.changed.append(self._describe)

    def reset(self, _: Any = None) -> None:
        """Offer the layers that there are now."""
        for widget in (self.fixed, self.moving, self.fixed_mask, self.moving_mask):
            widget.reset_choices()
        if self.moving.value is self.fixed.value and self.session.transform is None:
            others = [layer for _, layer in self._offered() if layer is not self.fixed.value]
            if others:
                self.moving.value = others[0]
        self._choose()

    def _offered(self) -> list[tuple[str, Any]]:
        return [(layer.name, layer) for layer in self.moving.choices]

    def _choose(self, _: Any = None) -> None:
        self.session.choose(self.fixed.value, self.moving.value)

    def settings(self) -> Settings:
        """The settings of the form. Raises ``RegisterError``."""
        return settings_form.chosen([self.first, self.more])

    def start(self, landmarks: Landmarks | None = None) -> None:
        """Align the chosen layers in a thread, with landmarks that hold."""
        if self.worker is not None:
            return
        try:
            fixed, moving = self.session.images()
            masks = (self._mask(self.fixed_mask.value, fixed), self._mask(self.moving_mask.value, moving))
            request = Request(fixed, moving, self.settings(), masks[0], masks[1], landmarks)
        except RegisterError as error:
            self.say(str(error))
            return
        self.progress = Progress()
        self._begin(work, request, self.progress, self.style.value)

    def _begin(self, function: Callable[..., Any], *values: Any) -> None:
        """Run a function in a thread and take its outcome."""
        self.align_button.enabled, self.cancel_button.enabled = False, True
        self.timer.start(POLLED)
        self.worker = create_worker(
            function, *values, _connect={"returned": self._take, "finished": self._end}, _start_thread=True
        )

    def _mask(self, layer: Any, image: Image) -> Pixels | None:
        """The pixels of a mask. Raises ``RegisterError`` for one of another size than the image."""
        if layer is None:
            return None
        mask = image_of(layer, self.session.viewer)
        if mask.size != image.size:
            (height, width), size = mask.size, f"{image.size[1]} × {image.size[0]}"
            raise RegisterError(f"mask {layer.name!r} is {width} × {height} pixels, its image {size}")
        return mask.pixels

    def cancel(self, _: Any = None) -> None:
        """End the alignment at its next step."""
        self.progress.cancel()
        self.stage.value = "cancelling"

    def _look(self) -> None:
        self.bar.value = round(100 * self.progress.share)
        if self.cancel_button.enabled:
            self.stage.value = self.progress.stage

    def _end(self) -> None:
        self.timer.stop()
        self.worker = None
        self.align_button.enabled, self.cancel_button.enabled = True, False

    def _take(self, result: tuple[Outcome, LayerData | None]) -> None:
        """Show an outcome."""
        outcome, data = result
        self.bar.value, self.stage.value = 0, ""
        if outcome.transform is None:
            self.say(outcome.error or "cancelled; nothing was changed")
            return
        self.session.show(outcome.transform, data)

    def say(self, text: str) -> None:
        """Show a message in place of the verdict."""
        self.words.text = text

    def _describe(self) -> None:
        transform = self.session.transform
        self.words.text = "" if transform is None else words.verdict(transform)

    def open(self, path: Path) -> None:
        """Open a transform and show it for the chosen layers."""
        try:
            transform = self.session.open(path)
            _, moving = self.session.images()
            self.session.show(transform, shown(transform, moving, self.settings(), self.style.value))
        except RegisterError as error:
            self.say(str(error))

    def save(self, path: Path) -> None:
        """Save the transform."""
        try:
            self.session.save(path)
            self.stage.value = f"saved as {path}"
        except RegisterError as error:
            self.say(str(error))

    def _ask(self, dialog: Any, then: Callable[[Path], None]) -> None:
        name, _ = dialog(self.container.native, "transform.json", "transform.json", "Transforms (*.json)")
        if name:
            then(Path(name))


def work(request: Request, progress: Progress, style: str) -> tuple[Outcome, LayerData | None]:
    """Align, and resample the moving image where the aligned layer needs that."""
    outcome = run(request, progress)
    if outcome.transform is None:
        return outcome, None
    return outcome, shown(outcome.transform, request.moving, request.settings, style)


def shown(transform: Transform, moving: Image, settings: Settings, style: str) -> LayerData | None:
    """The resampled moving image; None where the aligned layer is the moving one with an ``affine``."""
    if style == BY_AFFINE or models.is_global(transform.model):
        return None
    fill = fill_value(settings.fill, moving)
    return resampled(moving, transform, interpolation=settings.interpolation, fill=fill)
