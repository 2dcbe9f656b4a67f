"""The attributes of OME-Zarr 0.5: axes, pixel sizes, levels, and names, colours and contrast of channels."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from register._version import __version__
from register.io.images.levels import level_factors
from register.io.images.model import Image

UNITS = {"micrometer": "µm", "nanometer": "nm", "millimeter": "mm", "centimeter": "cm", "meter": "m"}
"""Units of length of OME-Zarr, and their symbols."""
CREATOR = {"name": "register", "version": __version__}
OWN = "register"
"""The key, beside ``ome``, of what OME-Zarr has no place for: the no-data value."""
RGB = ("red", "green", "blue")
PURE = ("FF0000", "00FF00", "0000FF")
CYCLE = ("0000FF", "00FF00", "FF0000", "FF00FF", "00FFFF", "FFFF00", "FFFFFF")
"""Colours of channels without one: those of the stains that are usual in that order."""
CONTRAST = 0.1, 99.9
"""Percentiles of the coarsest level between which viewers show a channel."""
SAMPLED = 2048
"""Most pixels along a side from which the contrast is taken."""
Json = dict[str, Any]


@dataclass(frozen=True)
class Depth:
    """The planes of a volume along z: their number, and their distance in the unit of the pixel size, None
    where it is not known."""

    planes: int
    step: float | None = None


def attributes(
    image: Image, sizes: list[tuple[int, int]], name: str, *, nearest: bool, depth: Depth | None = None
) -> Json:
    """The attributes of the group of an image, or of a volume of such planes, with levels of some sizes
    ``(height, width)``."""
    names = {symbol: unit for unit, symbol in UNITS.items()}
    unit = names.get(str(image.pixel_unit))
    spatial = [{"name": axis, "type": "space"} | ({"unit": unit} if unit else {}) for axis in "yx"]
    if depth:
        measured = {"unit": unit} if unit and depth.step else {}
        spatial.insert(0, {"name": "z", "type": "space"} | measured)
    multiscale: Json = {
        "name": name,
        "axes": [{"name": "c", "type": "channel"}, *spatial],
        "datasets": [_dataset(image, sizes[0], size, number, depth) for number, size in enumerate(sizes)],
        "type": "nearest" if nearest else "mean",
        "metadata": {"description": "every second pixel" if nearest else "means of 2 × 2 pixels"},
    }
    ome: Json = {"version": "0.5", "multiscales": [multiscale], "_creator": CREATOR}
    ome["omero"] = {"channels": _channels(image), "rdefs": {"model": "color"}}
    found: Json = {"ome": ome}
    if image.nodata is not None:
        found[OWN] = {"nodata": repr(image.nodata)}
    return found


def state_contrast(group: Any, colour: str) -> None:
    """Add to each channel the range in which viewers show it, from the coarsest level, or its middle."""
    ome = dict(group.attrs)["ome"]
    array = group[ome["multiscales"][0]["datasets"][-1]["path"]]
    starts = [max(side - SAMPLED, 0) // 2 for side in array.shape[-2:]]
    rows, columns = (slice(start, start + SAMPLED) for start in starts)
    for number, channel in enumerate(ome["omero"]["channels"]):
        values = np.asarray(array[number, ..., rows, columns])
        start, end = _contrast(values)
        limits = (start, end)
        if values.dtype.kind in "iu" and values.dtype.itemsize <= 2:
            info = np.iinfo(values.dtype)
            limits = (float(info.min), float(info.max))
        if colour == "rgb":
            start, end = limits
        channel["window"] = {"min": limits[0], "max": limits[1], "start": start, "end": end}
    group.attrs["ome"] = ome


def _contrast(values: Any) -> tuple[float, float]:
    """Two values between which almost all finite ones lie; 0 and 1 where there are none."""
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not finite.size:
        return 0.0, 1.0
    start, end = (float(x) for x in np.percentile(finite.astype(np.float64), CONTRAST))
    return (start, end) if end > start else (start, start + 1.0)


def _dataset(
    image: Image, full: tuple[int, int], size: tuple[int, int], number: int, depth: Depth | None
) -> Json:
    """A level: the size of its pixels, and the position of its first one."""
    width, height = image.pixel_size.xy if image.pixel_size else (1.0, 1.0)
    x, y = level_factors(full, size)
    left, top = _corner(image)
    along = [depth.step or 1.0] if depth else []
    steps: list[Json] = [{"type": "scale", "scale": [1.0, *along, height * y, width * x]}]
    moved = [0.0, *([0.0] * len(along)), top + height * (y - 1) / 2, left + width * (x - 1) / 2]
    if any(moved):
        steps.append({"type": "translation", "translation": moved})
    return {"path": str(number), "coordinateTransformations": steps}


def _corner(image: Image) -> tuple[float, float]:
    """The position of the first pixel; 0 where it is not known in the unit of the pixels."""
    if image.position and image.position[2] == image.pixel_unit in UNITS.values():
        return image.position[:2]
    return 0.0, 0.0


def _channels(image: Image) -> list[Json]:
    """Name and colour of each channel."""
    names, colours = list(image.channel_names), [f"{c >> 8 & 0xFFFFFF:06X}" for c in image.channel_colours]
    if image.colour == "rgb":
        names, colours = list(RGB), list(PURE)
    names += [""] * (image.channels - len(names))
    if image.alpha:
        names[-1] = "alpha"
    usual = ["FFFFFF"] if image.channels == 1 else list(CYCLE)
    colours += [usual[n % len(usual)] for n in range(len(colours), image.channels)]
    inverted = {"inverted": True} if image.colour == "inverted" else {}
    return [
        {"label": name, "color": colour, "active": True, **inverted}
        for name, colour in zip(names, colours, strict=True)
    ]
