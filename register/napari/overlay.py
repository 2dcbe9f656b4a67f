"""Compare the fixed with the aligned layer: in two colours, by flicker, by opacity."""

from typing import Any

import numpy as np
from magicgui.widgets import CheckBox, Container, FloatSlider
from qtpy.QtCore import QTimer

from register.napari.layers import image_of, layer_affine, world_from
from register.napari.lazy import shown
from register.napari.session import Session

COLOURS = {"fixed": "green", "aligned": "magenta"}
"""Colours of the fixed and of the aligned layer: where both agree, the sum is grey."""
HALF_PERIOD = 500
"""Milliseconds for which flicker shows each layer."""
RANGE, MIDDLE = (1.0, 99.0), 0.6
"""Percentiles that are drawn black and in full colour, and the share of the colour of the median."""
SAMPLE = 512
"""About the values along a side from which these are computed."""
GAMMAS = 0.3, 2.0


class Overlay:
    """The controls below the verdict."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.colours = CheckBox(text="two colours", value=False, tooltip="fixed green, aligned magenta")
        self.flicker = CheckBox(text="flicker", value=False, tooltip="show both in turn")
        self.opacity = FloatSlider(name="opacity", min=0, max=1, value=1, tooltip="of the aligned layer")
        self.container = Container(
            widgets=[
                Container(widgets=[self.colours, self.flicker], layout="horizontal", labels=False),
                Container(widgets=[self.opacity]),
            ],
            labels=False,
        )
        self.timer = QTimer()
        self.timer.timeout.connect(self.turn)
        self.added: list[Any] = []
        self.colours.changed.connect(lambda on: self._colour(on))
        self.flicker.changed.connect(lambda on: self._flicker(on))
        self.opacity.changed.connect(lambda value: self._fade(value))
        session.changed.append(self._reset)

    def _colour(self, on: bool) -> None:
        """Show grey copies of both layers in two colours, or remove them; the layers are not changed."""
        layers = self.session.viewer.layers
        for layer in self.added:
            if layer in layers:
                layers.remove(layer)
        self.added = []
        aligned = self.session.aligned
        if on and aligned is not None:
            pair = zip((self.session.fixed, aligned), COLOURS.items(), strict=True)
            self.added = [self._coloured(layer, name, colour) for layer, (name, colour) in pair]
            self.added[0].blending = "opaque"

    def _coloured(self, layer: Any, name: str, colour: str) -> Any:
        """What a layer shows, in grey, added in a colour; it is read when it is shown."""
        image = image_of(layer, self.session.viewer)
        data = shown([image.pixels, *image.smaller], colours=layer.rgb)
        levels = data.data if data.multiscale else [data.data]
        if layer.rgb:
            levels = [level[..., :3].mean(-1).astype(np.float32) for level in levels]
        down, across = (max(side // SAMPLE, 1) for side in levels[-1].shape)
        limits, gamma = tone(np.asarray(levels[-1][::down, ::across]))
        return self.session.viewer.add_image(
            levels if data.multiscale else levels[0],
            name=f"{name} ({colour})",
            multiscale=data.multiscale,
            affine=layer_affine(world_from(layer)),
            colormap=colour,
            contrast_limits=limits,
            gamma=gamma,
            blending="additive",
        )

    def _flicker(self, on: bool) -> None:
        """Begin or end to show both layers in turn."""
        if on:
            self.colours.value = False
            self.timer.start(HALF_PERIOD)
            return
        self.timer.stop()
        if self.session.aligned is not None:
            self.session.aligned.visible = True

    def turn(self) -> None:
        """Show the aligned layer if it is hidden, and hide it if it is shown."""
        aligned = self.session.aligned
        if aligned is None:
            self.timer.stop()
        else:
            aligned.visible = not aligned.visible

    def _fade(self, value: float) -> None:
        if self.session.aligned is not None:
            self.session.aligned.opacity = value

    def _reset(self) -> None:
        """Apply the controls to new layers."""
        self._colour(self.colours.value)
        self._fade(self.opacity.value)


def tone(values: Any) -> tuple[tuple[float, float], float]:
    """Limits and gamma by which the median of values has the same brightness in every image."""
    finite = np.asarray(values, np.float64)[np.isfinite(values)]
    if finite.size == 0:
        return (0.0, 1.0), 1.0
    low, high = np.percentile(finite, RANGE)
    if high <= low:
        return (float(low), float(low) + 1.0), 1.0
    middle = float(np.clip((np.median(finite) - low) / (high - low), 0.02, 0.98))
    return (float(low), float(high)), float(np.clip(np.log(MIDDLE) / np.log(middle), *GAMMAS))
