"""Landmarks as two layers of points whose points belong together by their names."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from register.errors import FileError, RegisterError
from register.files.atomic import write_text
from register.geometry import affine
from register.geometry.arrays import Float64
from register.io.points.landmarks import Landmarks, read_pairs
from register.napari.layers import layer_affine, pixels_from, with_xy, world_from, xy
from register.napari.results import NewLayer
from register.transforms.transform import Transform

NAME = "name"
"""The feature of a point that holds its name."""
FILES = "landmarks_fixed.csv", "landmarks_moving.csv"
"""The files of the landmarks in a folder."""
COLOURS = {"fixed": "#00e5ff", "moving": "#ffb000"}


@dataclass(frozen=True)
class Row:
    """A landmark: its fixed and moving point (x, y) in pixels, None where it is missing.

    ``residual`` is the distance, in moving pixels, of the mapped fixed point from the moving one, ``kept``
    whether the alignment used the landmark; both are None where they are not known.
    """

    name: str
    fixed: tuple[float, float] | None = None
    moving: tuple[float, float] | None = None
    residual: float | None = None
    kept: bool | None = None


def new_layer(kind: str, image: Any) -> NewLayer:
    """An empty layer for the ``fixed`` or ``moving`` landmarks, which lies where an image layer lies."""
    return NewLayer(
        "points",
        np.zeros((0, 2)),
        {
            "name": f"{kind} landmarks",
            "affine": layer_affine(world_from(image)),
            "ndim": 2,
            "features": {NAME: np.array([], dtype=object)},
            "feature_defaults": {NAME: ""},
            "text": {"string": "{name}", "color": COLOURS[kind], "translation": (-8, 0), "size": 12},
            "face_color": "transparent",
            "border_color": COLOURS[kind],
            "border_width": 0.15,
            "symbol": "cross",
            "size": 12,
        },
    )


def names(layer: Any) -> list[str]:
    """The names of the points of a layer; empty where a point has none."""
    if NAME not in layer.features:
        return [""] * len(layer.data)
    return ["" if value is None or value != value else str(value) for value in layer.features[NAME]]


def set_names(layer: Any, given: list[str]) -> None:
    """Name the points of a layer."""
    if not layer.visible:
        layer.set_view_slice()  # napari updates the points of visible layers only, and draws the names of all
    layer.features = layer.features.assign(**{NAME: np.array(given, dtype=object)})
    layer.feature_defaults = {NAME: ""} if set(layer.feature_defaults.columns) == {NAME} else None
    layer.refresh_text()


def name_new(layer: Any, other: Any) -> None:
    """Name the points of a layer that have no name, or the name of an earlier point.

    A new point gets the name of the first point of the other layer that has no partner, or else a number.
    """
    known: list[str] = []
    free = [name for name in names(other) if name and name not in names(layer)]
    given = names(layer)
    for name in given:
        if not name or name in known:
            taken = {*known, *given, *names(other)}
            number = next(n for n in range(1, len(taken) + 2) if str(n) not in taken)
            name = free.pop(0) if free else str(number)
        known.append(name)
    if known != given:
        set_names(layer, known)


def rename(layers: tuple[Any, Any], old: str, new: str) -> None:
    """Rename a landmark in both layers. Raises ``RegisterError`` for a name that is empty or taken."""
    new = new.strip()
    if not new or any(new in names(layer) for layer in layers):
        raise RegisterError(f"the name {new!r} is {'taken' if new else 'empty'}: choose another one")
    for layer in layers:
        if old in names(layer):
            set_names(layer, [new if name == old else name for name in names(layer)])


def remove(layers: tuple[Any, Any], gone: set[str]) -> None:
    """Remove landmarks from both layers."""
    for layer in layers:
        layer.selected_data = {n for n, name in enumerate(names(layer)) if name in gone}
        layer.remove_selected()


def points_of(layer: Any, image: Any) -> dict[str, Float64]:
    """The landmarks of a layer by name: points (2,), ``(x, y)`` in the pixels of an image layer."""
    found = affine.apply(pixels_from(layer, image), xy(np.asarray(layer.data).reshape(-1, layer.ndim)))
    return dict(zip(names(layer), found, strict=True))


def rows(layers: tuple[Any, Any], images: tuple[Any, Any], transform: Transform | None) -> list[Row]:
    """All landmarks in the order of the fixed ones, then those that have a moving point only."""
    fixed, moving = (points_of(layer, image) for layer, image in zip(layers, images, strict=True))
    kept = {} if transform is None else _kept(transform)
    found = []
    for name in dict.fromkeys([*fixed, *moving]):
        one, other = fixed.get(name), moving.get(name)
        residual = None
        if transform is not None and one is not None and other is not None:
            residual = float(np.linalg.norm(transform.map(one[None])[0] - other))
        used = None if one is None else kept.get(_key(one))
        found.append(Row(name, _pair(one), _pair(other), residual, used))
    return found


def _pair(point: Float64 | None) -> tuple[float, float] | None:
    return None if point is None else (float(point[0]), float(point[1]))


def _key(point: Float64) -> tuple[float, float]:
    """What a point is recognised by."""
    return round(float(point[0]), 3), round(float(point[1]), 3)


def _kept(transform: Transform) -> dict[tuple[float, float], bool]:
    """Whether the alignment used each of its held landmarks."""
    held = transform.quality.held
    return {_key(np.array(x.fixed)): bool(x.kept) for x in held.points} if held else {}


def pairs(found: list[Row]) -> Landmarks:
    """The points (n, 2) of the landmarks that have both. Raises ``RegisterError`` without any."""
    both = [row for row in found if row.fixed and row.moving]
    if not both:
        raise RegisterError("no landmark has a point in both layers: add one to each")
    return np.array([row.fixed for row in both]), np.array([row.moving for row in both])


def save(found: list[Row], folder: Path) -> tuple[Path, Path]:
    """Write the landmarks that have both points as two tables with the columns name, x and y, in pixels.

    Raises ``FileError`` where a file exists.
    """
    pairs(found)
    both = [row for row in found if row.fixed and row.moving]
    paths = folder / FILES[0], folder / FILES[1]
    for path in paths:
        if path.exists():
            raise FileError(path, "exists already", "choose another folder")
    for path, which in zip(paths, ("fixed", "moving"), strict=True):
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([NAME, "x", "y"])
        writer.writerows([[row.name, *map("{:.4f}".format, getattr(row, which))] for row in both])
        write_text(path, text.getvalue())
    return paths


def load(text: str, layers: tuple[Any, Any], images: tuple[Any, Any]) -> int:
    """Replace the landmarks by those of two files, ``FIXED,MOVING``, or one of BigWarp; return their number.

    Raises ``FileError``.
    """
    points = read_pairs(text)
    for layer, image, some in zip(layers, images, points, strict=True):
        place = affine.apply(affine.invert(pixels_from(layer, image)), some)
        layer.data = with_xy(np.zeros((len(some), layer.ndim)), place)
        set_names(layer, [str(n) for n in range(1, len(some) + 1)])
    return len(points[0])


def read_folder(folder: Path) -> str:
    """The option value of the files that ``save`` wrote into a folder. Raises ``FileError`` without them."""
    paths = [folder / name for name in FILES]
    for path in paths:
        if not path.is_file():
            raise FileError(path, "does not exist", "choose a folder with saved landmarks")
    return ",".join(map(str, paths))
