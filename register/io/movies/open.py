"""Open the frames of a movie, time series or depth stack: one file, several files, or an image each."""

import glob
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from register.errors import FileError, RegisterError
from register.io.images.open import open_image
from register.io.images.reader import image_suffixes
from register.io.movies.containers import container_of
from register.io.movies.file_sets import first_page, refuse_mixed
from register.io.movies.layout import AS_STORED, Layout
from register.io.movies.source import largest
from register.io.movies.stack import ImageFiles, Joined, Stack
from register.io.movies.tiff_pages import TiffPages


def open_stack(sources: str | Sequence[str], layout: Layout = AS_STORED) -> Stack:
    """The frames of files, folders or patterns, in the given order and in natural order within each.

    Files that hold several frames follow one another; other image files are a frame each. In a folder, files
    that are not images are left out. The frames of a TIFF lie along T, else Z, else its only other axis; C
    are channels. Raises ``FileError`` or ``RegisterError``.
    """
    named = [sources] if isinstance(sources, str) else list(sources)
    files = [path for source in named for path in _files(source)]
    name = Path(named[0]).name
    if container_of(files[0]) is None:
        layout.refuse_plane(files[0])
        layout.refuse_fields(files[0], ())
        if len(files) == 1:
            raise FileError(
                files[0], "is a single image", "name a file with several frames, or several files"
            )
        return _of_files(name, files)
    first = _of_container(files[0], layout)
    if len(files) == 1:
        if isinstance(first.source, TiffPages) and first.source.part:
            raise FileError(files[0], "is one of several files of a series", "name their folder or a pattern")
        if len(first) == 1:
            raise FileError(files[0], "holds a single frame", "name a file with several, or several files")
        return first
    if isinstance(first.source, TiffPages) and first.source.part and len(first) == 1:
        refuse_mixed(files)
        pages = ImageFiles(tuple(files), first.shape, first.dtype, first_page)
        return replace(first, name=name, files=tuple(files), source=pages)
    if len(first) == 1:
        return _of_files(name, files)
    return _joined(name, [first, *(_of_container(path, layout) for path in files[1:])])


def _files(source: str) -> list[Path]:
    """The files of a path or pattern, in natural order; of a folder its images."""
    path = Path(source)
    if path.is_dir() and container_of(path):
        found = [path]
    elif path.is_dir():
        inside = [x for x in path.iterdir() if not x.name.startswith(".")]
        found = [x for x in inside if x.is_file() and x.name.lower().endswith(image_suffixes())]
        found = found or [x for x in inside if x.suffix.lower() != ".npy" and container_of(x)]
    else:
        found = [Path(name) for name in glob.glob(source) if not Path(name).name.startswith(".")]
        found = found or [path] * path.exists()
    if not found and path.is_dir():
        raise FileError(source, "holds no image and no movie", "name a folder of images, or a file")
    if not found:
        raise RegisterError(f"{source}: no such file; check the path or pattern")
    return sorted(found, key=_natural)


def _of_container(path: Path, layout: Layout) -> Stack:
    """The stack of one file that holds frames. Raises ``FileError`` for one of another kind."""
    container = container_of(path)
    if container is None:
        raise FileError(path, "is a single image among files of many frames", "name files of one kind")
    layout.refuse_fields(path, container.takes)
    return container.open(path, layout)


def _joined(name: str, stacks: list[Stack]) -> Stack:
    """The frames of several stacks. Raises ``FileError`` where channels or data types differ."""
    first = stacks[0]
    for stack in stacks[1:]:
        if stack.shape[0] != first.shape[0] or stack.dtype != first.dtype:
            raise FileError(
                stack.files[0],
                f"has frames {stack.dtype} {stack.shape}, {first.files[0].name} {first.dtype} {first.shape}",
                "all frames need the same channels and data type",
            )
    return Stack(
        name,
        tuple(path for stack in stacks for path in stack.files),
        Joined(tuple(stack.source for stack in stacks)),
        first.rgb,
        first.axis,
        first.step,
        first.pixel_size,
        first.nodata,
        tuple(note for stack in stacks for note in stack.notes),
    )


def _of_files(name: str, files: list[Path]) -> Stack:
    """The stack of one file per frame."""
    refuse_mixed(files)
    first = open_image(files[0])
    sizes = [(first.channels, *open_image(path).size) for path in files]
    source = ImageFiles(tuple(files), largest(sizes), first.dtype)
    return Stack(
        name,
        tuple(files),
        source,
        rgb=first.colour == "rgb" and not first.extra,
        pixel_size=first.pixel_size,
        nodata=first.nodata,
    )


def _natural(path: Path) -> list[tuple[int, str]]:
    """An order of names in which 2 comes before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]
