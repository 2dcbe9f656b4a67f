"""Write a stack of frames as one BigTIFF, frame by frame."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import tifffile

from register.files.atomic import atomic_write
from register.io.images.tiff_tags import Options, physical_size, resolution_options
from register.io.movies.about import About, Add, Encoded
from register.io.movies.encode import stored
from register.io.movies.stack import Stack


@contextmanager
def stack_writer(path: Path, about: About) -> Iterator[Add]:
    """A function that adds one frame (c, h, w), or its only strip, encoded, to a BigTIFF with the metadata of
    the movie.

    The file is written beside ``path`` and renamed when the block ends without an exception.
    """
    stack, packed = about.stack, None if about.compression == "none" else about.compression
    first_page, (_, height, width) = _first_page(stack), stack.shape
    page = (height, width, 3) if stack.rgb else (height, width)
    with atomic_write(path) as beside, tifffile.TiffWriter(beside, bigtiff=True) as file:

        def add(frame: Encoded) -> None:
            strip: Options = {"shape": page, "dtype": stack.dtype, "rowsperstrip": height}
            file.write(
                iter([frame]) if isinstance(frame, bytes) else stored(frame, stack.rgb),
                photometric="rgb" if stack.rgb else "minisblack",
                compression=packed,
                metadata=None,
                **(strip if isinstance(frame, bytes) else {}),
                **first_page,
            )
            first_page.clear()

        yield add


def _first_page(stack: Stack) -> Options:
    """What is written with the first page for all: axes, pixel size, time between frames."""
    (channels, height, width), count = stack.shape, len(stack)
    along = (count,) if stack.planes is None else (count // stack.planes, stack.planes)
    attributes: Options = {"Name": stack.name, **physical_size(stack.pixel_size)}
    if stack.step and stack.axis == "T":
        attributes |= {"TimeIncrement": stack.step, "TimeIncrementUnit": "s"}
    if stack.step and stack.axis == "Z" and stack.pixel_size and stack.pixel_size.unit:
        attributes |= {"PhysicalSizeZ": stack.step, "PhysicalSizeZUnit": stack.pixel_size.unit}
    if stack.channel_names and not stack.rgb:
        attributes["Channel"] = {"Name": list(stack.channel_names)}
    plane = (height, width)
    shape: tuple[int, ...] = (*along, *plane)
    stored, axes = (count, 1, 1, *plane, 1), "YX"
    if stack.rgb:
        shape, stored, axes = (*along, *plane, 3), (count, 1, 1, *plane, 3), "YXS"
    elif channels > 1:
        shape, stored, axes = (*along, channels, *plane), (count * channels, 1, 1, *plane, 1), "CYX"
    ome = tifffile.OmeXml(UUID=str(uuid5(NAMESPACE_URL, f"{stack.name} {stack.dtype} {shape}")))
    frames = stack.axis if stack.planes is None else "TZ"
    ome.addimage(stack.dtype, shape, stored, axes=frames + axes, **attributes)
    resolution = resolution_options(stack.pixel_size)
    return {"software": "register", **resolution, "description": ome.tostring(declaration=True).encode()}
