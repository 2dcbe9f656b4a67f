"""Write aligned frames as OME-Zarr 0.5: one chunk per frame and channel, several frames in a file.

Source: the OME-NGFF specification 0.5 (ngff.openmicroscopy.org); sharding: Zarr core 3, sharding codec.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.files.atomic import atomic_folder
from register.io.images.zarr_metadata import CREATOR, UNITS
from register.io.images.zarr_write import codec
from register.io.movies.about import About, Add, Encoded
from register.io.movies.stack import Stack

TOGETHER = 16
"""Frames in a file."""


def zarr_frame(frame: NDArray[Any], stack: Stack, compression: str) -> Encoded:
    """The frame (c, h, w) itself: the writer encodes several together."""
    return frame


@contextmanager
def zarr_writer(path: Path, about: About) -> Iterator[Add]:
    """A function that adds one frame to the only level of an image."""
    import zarr

    stack = about.stack
    with atomic_folder(path) as beside:
        group = zarr.create_group(beside, zarr_format=3)
        (channels, *plane), deep = stack.shape, stack.axis == "Z"
        names = ["c", "z"] if deep else ["t", "c"]  # the order of the specification
        array = group.create_array(
            "0",
            shape=(channels, len(stack), *plane) if deep else (len(stack), *stack.shape),
            dtype=stack.dtype,
            chunks=(1, 1, *plane),
            shards=(channels, TOGETHER, *plane) if deep else (TOGETHER, *stack.shape),
            compressors=codec(about.compression),
            dimension_names=[*names, "y", "x"],
        )
        group.attrs.update({"ome": _image(path, stack)})
        waiting = list[NDArray[Any]]()
        done = 0

        def flush() -> None:
            nonlocal done
            some = slice(done, done + len(waiting))
            if deep:
                array[:, some] = np.stack(waiting, 1)
            else:
                array[some] = np.stack(waiting)
            done += len(waiting)
            waiting.clear()

        def add(frame: Encoded) -> None:
            waiting.append(np.asarray(frame))
            if len(waiting) == TOGETHER:
                flush()

        yield add
        if waiting:
            flush()


def _image(path: Path, stack: Stack) -> Any:
    """The metadata of the image: axes, and the sizes of pixels and steps that are known."""
    unit = {symbol: name for name, symbol in UNITS.items()}.get(
        str(stack.pixel_size and stack.pixel_size.unit)
    )
    length = {"unit": unit} if unit else {}
    width, height = stack.pixel_size.xy if stack.pixel_size else (1.0, 1.0)
    along: dict[str, str] = {"name": "t", "type": "time", **({"unit": "second"} if stack.step else {})}
    channel, step = {"name": "c", "type": "channel"}, stack.step or 1.0
    first, scale = [along, channel], [step, 1.0, height, width]
    if stack.axis == "Z":
        along = {"name": "z", "type": "space", **(length if stack.step else {})}
        first, scale = [channel, along], [1.0, step, height, width]
    axes = first + [{"name": x, "type": "space", **length} for x in "yx"]
    dataset = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
    name = path.name.removesuffix(".ome.zarr")
    image = {"name": name, "axes": axes, "datasets": [dataset]}
    return {"version": "0.5", "multiscales": [image], "_creator": CREATOR}
