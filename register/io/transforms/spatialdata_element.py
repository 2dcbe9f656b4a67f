"""An element of a SpatialData: its axes, the transformations that it states, and a further one.

Source: the on-disk format of SpatialData (spatialdata.scverse.org, Storage format and Transformations).
Images and labels keep their transformations in ``multiscales``, points and shapes in attributes of their
group.
"""

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from register.errors import FileError
from register.geometry.arrays import Float64
from register.io.transforms.ngff import Json
from register.transforms.frame import Frame

RASTER, VECTOR = ("images", "labels"), ("points", "shapes")
DAMAGED = KeyError, IndexError, TypeError, ValueError, AttributeError
Values = Mapping[str, float]
"""A position by the names of its axes."""


@dataclass(frozen=True)
class Element:
    """An element at ``path``, ``sample.zarr/images/he``, by its open zarr group."""

    path: Path
    group: Any

    @property
    def root(self) -> Path:
        """The folder of the SpatialData."""
        return self.path.parent.parent

    @property
    def is_raster(self) -> bool:
        """Whether it has pixels."""
        return self.path.parent.name in RASTER

    @property
    def axes(self) -> list[str]:
        """The names of its axes in their order."""
        if not self.is_raster:
            return [str(name) for name in self.group.attrs["axes"]]
        return [str(axis["name"]) for axis in self._image()["axes"]]

    @property
    def stated(self) -> list[Json]:
        """Its transformations, one to each coordinate system."""
        holder = self._image() if self.is_raster else self.group.attrs.asdict()
        return list(holder.get("coordinateTransformations", []))

    def check(self, frame: Frame, which: str, written: Collection[str] = ()) -> None:
        """Raise ``FileError`` for pixels that are not those of the ``frame`` of the ``which`` image, and for
        numbers that may be no pixels.

        Affine transformations to the coordinate systems ``written`` are from an earlier run.
        """
        if self.is_raster:
            shape = self.group[self._image()["datasets"][0]["path"]].shape
            sides = dict(zip(self.axes, shape, strict=True))
            if (sides["x"], sides["y"]) != (frame.width, frame.height):
                problem = f"has {sides['x']} × {sides['y']} pixels, the {which} image of the transform"
                advice = "align the images of the elements, at full resolution"
                raise FileError(self.path, f"{problem} {frame.width} × {frame.height}", advice)
            return
        known = (
            each["type"] == "identity" or (each["type"] == "affine" and each["output"]["name"] in written)
            for each in self.stated
        )
        if not all(known):
            problem = "states a transformation, so that its numbers may be no pixels"
            raise FileError(self.path, problem, "name the image that belongs to it")

    def systems(self) -> dict[str, Float64]:
        """The affine maps (2, 3) from ``(x, y)`` to each coordinate system that it states.

        Raises ``FileError`` for other transformations, and for those that mix x and y with other axes.
        """
        return {str(each["output"]["name"]): self._plane(each) for each in self.stated}

    def state(self, maps: Mapping[str, Float64], overwrite: bool) -> None:
        """Add the affine maps (2, 3) to coordinate systems.

        Raises ``FileError`` where another map to one of them is there and may not be overwritten.
        """
        new = {name: transformation(self.axes, name, matrix) for name, matrix in maps.items()}
        old = {str(each["output"]["name"]): each for each in self.stated}
        other = [name for name in new if name in old and old[name] != new[name]]
        if other and not overwrite:
            raise FileError(self.path, f"has a transformation to {other[0]!r} already", "use --overwrite")
        found = list((old | new).values())
        attributes = self.group.attrs.asdict()
        if self.is_raster:
            attributes.get("ome", attributes)["multiscales"][0]["coordinateTransformations"] = found
        else:
            attributes["coordinateTransformations"] = found
        self.group.attrs.update(attributes)

    def _image(self) -> Json:
        attributes = self.group.attrs.asdict()
        image: Json = attributes.get("ome", attributes)["multiscales"][0]
        return image

    def _plane(self, stated: Json) -> Float64:
        """The map (2, 3) of x and y alone, from where it takes the origin and the ends of its axes."""
        axes = [str(axis["name"]) for axis in stated["input"]["axes"]]
        zero = dict.fromkeys(axes, 0.0)
        origin = self._at(stated, zero)
        steps = {name: self._at(stated, zero | {name: 1.0}) - origin for name in axes}
        if any(steps[name].any() for name in axes if name not in ("x", "y")):
            raise FileError(self.path, "has a transformation in which other axes change x and y")
        return np.stack([steps["x"], steps["y"], origin], axis=1)

    def _at(self, stated: Json, values: Values) -> Float64:
        """Where a transformation takes a position: ``(x, y)``."""
        found = _mapped(stated, values, self.path)
        return np.array([found["x"], found["y"]])


def open_element(path: Path) -> Element:
    """The element at a path. Raises ``FileError`` where none is, and for metadata that are damaged."""
    import zarr

    path = Path(path)
    if path.parent.name not in (*RASTER, *VECTOR):
        problem, advice = "is no element of a SpatialData", "name one, as in sample.zarr/images/he"
        raise FileError(path, problem, advice)
    try:
        element = Element(path, zarr.open_group(path, mode="r+", use_consolidated=False))
        zarr.open_group(element.root, mode="r")
        if not {"x", "y"} <= set(element.axes) or not all(each["type"] for each in element.stated):
            raise ValueError("it has no axes x and y")
    except (*DAMAGED, OSError) as error:
        advice = "name an image, labels, points or shapes of a SpatialData"
        raise FileError(path, f"cannot be read as an element ({error})", advice) from None
    return element


def transformation(axes: Sequence[str], system: str, matrix: Float64) -> Json:
    """An affine transformation of x and y, (2, 3), that leaves other axes as they are."""
    rows = np.eye(len(axes), len(axes) + 1)
    places = [axes.index("x"), axes.index("y")]
    rows[np.ix_(places, [*places, len(axes)])] = matrix
    described = [
        {"name": name, "type": "channel"} if name == "c" else {"name": name, "type": "space", "unit": "unit"}
        for name in axes
    ]
    return {
        "type": "affine",
        "affine": rows.tolist(),
        "input": {"name": "".join(axes), "axes": described},
        "output": {"name": system, "axes": described},
    }


def consolidate(root: Path) -> None:
    """Write the metadata of all elements anew into those of the SpatialData, if it keeps such a copy."""
    import zarr

    if zarr.open_group(root, mode="r").metadata.consolidated_metadata is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr warns that the specification of version 3 has no such copy
        zarr.consolidate_metadata(root)


def _mapped(stated: Json, values: Values, path: Path) -> Values:
    """The position to which a transformation takes a position."""
    kind = stated["type"]
    if kind == "sequence":
        for each in stated["transformations"]:
            values = _mapped(each, values, path)
        return values
    names, results = ([str(axis["name"]) for axis in stated[end]["axes"]] for end in ("input", "output"))
    given = np.array([values[name] for name in names])
    if kind == "identity":
        return values
    if kind == "mapAxis":
        return {name: values[stated["mapAxis"][name]] for name in results}
    if kind == "affine":
        rows = np.array(stated["affine"], float)
        moved = rows[:, :-1] @ given + rows[:, -1]
    elif kind in ("scale", "translation"):
        amount = np.array(stated[kind], float)
        moved = given * amount if kind == "scale" else given + amount
    else:
        raise FileError(
            path, f"has a transformation of the kind {kind}", "name an element with an affine one"
        )
    return dict(zip(results, moved.tolist(), strict=True))
