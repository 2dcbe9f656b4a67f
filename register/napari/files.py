"""A saved result as layers: both images as their files hold them, and what the transform adds."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from register.errors import FileError
from register.geometry.arrays import Float64
from register.images.pixels import SelectedChannels
from register.io.images.colours import DEFAULTS
from register.io.images.model import Image, Selection
from register.io.images.open import open_image
from register.napari.lazy import shown
from register.napari.results import NewLayer
from register.transforms.transform import Transform

TRANSFORM = "transform.json"
KINDS = "fixed", "moving"


def transform_file(target: Path) -> Path:
    """The transform of a folder of results, or the file itself. Raises ``FileError``."""
    path = target / TRANSFORM if target.is_dir() else target
    if not path.is_file():
        raise FileError(target, f"holds no {TRANSFORM}", "name a folder that `register align` wrote")
    return path


def opened(transform: Transform, folder: Path, kind: str) -> Image:
    """The ``fixed`` or ``moving`` image of a transform, by its path, or that relative to the folder of the
    transform.

    The series, level and plane are those of the alignment. Raises ``FileError`` where it is not found, or has
    another size.
    """
    frame = transform.fixed if kind == "fixed" else transform.moving
    if not frame.path:
        raise FileError(
            folder / TRANSFORM, f"names no {kind} image", "open the images in napari, then the transform"
        )
    place = next((x for x in (Path(frame.path), folder / frame.path) if x.exists()), None)
    if place is None:
        raise FileError(frame.path, "does not exist", f"it is the {kind} image of the transform")
    settings = transform.provenance.settings
    part = Selection(
        settings.get("series"), settings.get(f"{kind}_level") or 0, settings.get(f"{kind}_plane")
    )
    image = open_image(place, part)
    height, width = image.size
    if (width, height) != (frame.width, frame.height):
        raise FileError(
            place,
            f"is {width} × {height} pixels, in the transform {frame.width} × {frame.height}",
            "it is not the image that was aligned",
        )
    return image


def layers_of(image: Image, kind: str) -> list[NewLayer]:
    """An image of colours as one layer, another one as a layer per channel, in µm where that is known.

    Pixels are read when they are shown.
    """
    image = image.coloured()
    levels = [image.pixels, *image.smaller]
    options: dict[str, object] = {}
    size = image.pixel_size
    if size is not None and size.unit:
        options = {"scale": (size.y, size.x), "units": (size.unit, size.unit)}
    name = f"{kind}: {Path(image.path or '').name}"
    if image.colour == "rgb":
        data = shown(levels, colours=True)
        return [
            NewLayer("image", data.data, options | {"name": name, "rgb": True, "multiscale": data.multiscale})
        ]
    count = image.channels - int(image.alpha)
    made = []
    for channel in range(count):
        data = shown([SelectedChannels(level, (channel,)) for level in levels], colours=False)
        own: dict[str, object] = {"name": name, "multiscale": data.multiscale}
        if count > 1:
            called = image.channel_names[channel] if channel < len(image.channel_names) else str(channel)
            own = own | {
                "name": f"{name} {called}",
                "colormap": _colour(image, channel),
                "blending": "additive",
            }
        made.append(NewLayer("image", data.data, options | own))
    return made


def compared(layers: list[NewLayer], grey: str | None) -> int:
    """The index of the layer of the channel that was compared, as ``channel 2 (CD3)``; 0 for several."""
    number = re.match(r"channel (\d+)", grey or "")
    return int(number[1]) if number and int(number[1]) < len(layers) else 0


def _colour(image: Image, channel: int) -> Any:
    """The colour map of a channel, from black to its colour."""
    stated = image.channel_colours
    colours = stated if len(stated) == image.channels else DEFAULTS
    colour = colours[channel % len(colours)]
    rgb: Float64 = np.array([(colour >> shift) & 255 for shift in (24, 16, 8)], np.float64) / 255
    return np.array([[0.0, 0.0, 0.0, 1.0], [*rgb, 1.0]])
