"""``register merge``: the channels of aligned images in one file, each resampled once from its original."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from register.errors import FileError, RegisterError
from register.files.atomic import refuse_existing, refuse_inputs
from register.files.hashes import sha256
from register.files.remote import is_remote
from register.images.pixels import Converted, Pixels, SelectedChannels, Stacked
from register.io.images.model import Image, Selection
from register.io.images.open import open_image
from register.transforms.frame import Frame
from register.transforms.quality import Verdict
from register.transforms.transform import Transform
from register.workflows.aligned_image import PLAIN, OutputStyle, aligned_image, write_aligned
from register.workflows.ids import stem, unique
from register.workflows.local_files import local_files

COLOURS = "red", "green", "blue"
SUFFIXES = (".ome.tif", ".ome.tiff", ".ome.zarr")
"""Endings of the files that can be written."""


@dataclass(frozen=True)
class MergeOptions:
    """Which channels are merged, and how they are named.

    ``prefix`` puts the id of its image before the name of a channel. ``drop_repeated`` keeps the first of
    channels with equal names. ``channels`` are names, with or without ids; none means all. ``dtype`` is the
    type of all values, which must hold those of every image.
    """

    prefix: bool = True
    drop_repeated: bool = False
    channels: tuple[str, ...] = ()
    dtype: str | None = None


@dataclass(frozen=True)
class Part:
    """One image on the common grid, with its id and its file."""

    id: str
    image: Image
    path: str


@dataclass(frozen=True)
class Channel:
    """One channel of a part: its index, its name in its own image, and its name with the id of the part."""

    part: Part
    index: int
    name: str

    @property
    def full_name(self) -> str:
        """``ID: name``; the id alone where the channel has no name."""
        return f"{self.part.id}: {self.name}" if self.name else self.part.id


@dataclass(frozen=True)
class Merged:
    """What was written: the file, its size, type and channels, and remarks."""

    file: str
    width: int
    height: int
    dtype: str
    channels: tuple[str, ...]
    notes: tuple[str, ...] = ()


def merge(
    transforms: Sequence[Path],
    output: str | Path,
    options: MergeOptions,
    *,
    style: OutputStyle = PLAIN,
    overwrite: bool = False,
    tick: Callable[[float], None] = lambda share: None,
) -> Merged:
    """Write the fixed image of some transforms and each moving image into one file, on the fixed grid.

    Raises ``RegisterError`` for transforms of different fixed images, for one whose verdict is ``failed``,
    for images that have changed since they were aligned, and for mixed types without ``dtype``.
    """
    if is_remote(str(output)):
        raise FileError(output, "is at a remote address", "copy the result there, or use --scheduler")
    output = Path(output)
    check_output(output, overwrite)
    with local_files() as local:
        parts, notes = parts_of(transforms, style, local.path)
        refuse_inputs(output, *transforms, *(Path(part.path) for part in parts))
        return write_parts(parts, output, options, style=style, tick=tick, notes=notes)


def check_output(output: Path, overwrite: bool, option: str = "--output") -> None:
    """Raise ``FileError`` for a file, that of an ``option``, that exists, and for a format that cannot hold
    many channels."""
    if not output.name.lower().endswith(SUFFIXES):
        raise FileError(output, "cannot hold many named channels", f"name a file {', '.join(SUFFIXES)}")
    refuse_existing(output, overwrite, option)


def write_parts(
    parts: Sequence[Part],
    output: Path,
    options: MergeOptions,
    *,
    style: OutputStyle = PLAIN,
    tick: Callable[[float], None] = lambda share: None,
    notes: Sequence[str] = (),
) -> Merged:
    """Write images that lie on one grid into one file. Raises ``RegisterError`` as ``merge`` does."""
    refuse_inputs(output, *(Path(part.path) for part in parts))
    image = merged_image(parts, options)
    style = replace(style, pyramid=True if style.pyramid is None else style.pyramid)
    write_aligned(output, image, style, tick=tick)
    height, width = image.size
    opaque = [part for part in parts if part.image.alpha]
    dropped = [f"the opacity of {part.path} is not a channel of the result" for part in opaque]
    return Merged(str(output), width, height, str(image.dtype), image.channel_names, (*notes, *dropped))


def merged_image(parts: Sequence[Part], options: MergeOptions) -> Image:
    """The channels of images on one grid as one image; its pixels are computed when they are read.

    One colour image alone stays a colour image. Raises ``RegisterError`` for channels that do not exist and
    for mixed types without ``dtype``.
    """
    chosen = _chosen([channel for part in parts for channel in channels_of(part)], options)
    used = {id(channel.part): channel.part for channel in chosen}
    pixels = _converted(chosen, options.dtype)
    first = parts[0].image
    colour = len(used) == 1 and len(chosen) == 3 and chosen[0].part.image.colour == "rgb"
    made = Image(
        Stacked(pixels),
        kind="ome",
        colour="rgb" if colour else "grey",
        pixel_size=first.pixel_size,
        position=first.position,
    )
    if colour:
        return made
    names = tuple(channel.full_name if options.prefix else channel.name for channel in chosen)
    colours = [_colour(channel) for channel in chosen]
    stated = tuple(value for value in colours if value is not None)
    return replace(made, channel_names=names, channel_colours=stated if len(stated) == len(colours) else ())


def type_of(parts: Sequence[Part], options: MergeOptions) -> np.dtype[Any]:
    """The type of the values of merged images. Raises ``RegisterError`` as ``merged_image`` does."""
    chosen = _chosen([channel for part in parts for channel in channels_of(part)], options)
    return _converted(chosen, options.dtype)[0].dtype


def channels_of(part: Part) -> list[Channel]:
    """The channels of an image, without its opacity; those of colours are called red, green and blue."""
    image = part.image
    count = image.channels - image.alpha
    names = list(image.channel_names) if len(image.channel_names) >= count else [""] * count
    if image.colour == "rgb":
        names = [*COLOURS, *names[3:]]
    if count > 1:
        names = [name or f"channel {index}" for index, name in enumerate(names)]
    return [Channel(part, index, names[index]) for index in range(count)]


def _chosen(channels: list[Channel], options: MergeOptions) -> list[Channel]:
    """The channels that the options keep. Raises ``RegisterError`` for a name that none has."""
    kept, seen = [], set()
    for name in options.channels:
        if not any(name in (channel.name, channel.full_name) for channel in channels):
            known = ", ".join(channel.full_name for channel in channels)
            raise RegisterError(f"--channels {name!r}: no image has this channel; there are {known}")
    for channel in channels:
        if options.channels and not {channel.name, channel.full_name} & set(options.channels):
            continue
        key = channel.name.casefold()
        if options.drop_repeated and key and key in seen:
            continue
        seen.add(key)
        kept.append(channel)
    return kept


def _converted(chosen: list[Channel], dtype: str | None) -> tuple[Pixels, ...]:
    """The channels as images (1, h, w) of one type. Raises ``RegisterError`` for mixed types, and for one
    that cannot hold the values of an image."""
    types: dict[str, str] = {}
    for channel in chosen:
        types.setdefault(str(channel.part.image.dtype), channel.part.path)
    if dtype is None and len(types) > 1:
        found = " and ".join(f"{name} ({path})" for name, path in types.items())
        wide = np.result_type(*map(np.dtype, types))
        raise RegisterError(f"the images have different types: {found}; use --dtype {wide}")
    try:
        target = np.dtype(dtype or next(iter(types)))
    except TypeError:
        raise RegisterError(
            f"--dtype {dtype!r} is not a type of pixels; use uint8, uint16, float32, …"
        ) from None
    for name, path in types.items():
        safe = np.can_cast(np.dtype(name), target, "safe")
        if not safe and not (np.dtype(name).kind == target.kind == "f"):
            raise RegisterError(f"{path}: its pixels, of type {name}, do not fit into --dtype {target}")
    single = [SelectedChannels(channel.part.image.pixels, (channel.index,)) for channel in chosen]
    return tuple(one if one.dtype == target else Converted(one, target) for one in single)


def _colour(channel: Channel) -> int | None:
    """The display colour that the file states for a channel."""
    colours = channel.part.image.channel_colours
    return colours[channel.index] if channel.index < len(colours) else None


def parts_of(
    paths: Sequence[Path], style: OutputStyle, located: Callable[[str], Path]
) -> tuple[list[Part], list[str]]:
    """The fixed image, where it is a file, and the moving images on its grid; and remarks.

    ``located`` gives the local path of an image. Raises ``RegisterError`` as ``merge`` does.
    """
    made = [(path, Transform.load(path)) for path in paths]
    _check_frames(made)
    notes = [
        f"{path}: its verdict is {transform.quality.verdict}"
        for path, transform in made
        if transform.quality.verdict != Verdict.OK
    ]
    frame = made[0][1].fixed
    files = [transform.moving.path or "" for _, transform in made]
    fixed = None
    if frame.path is not None and frame.path not in files:
        fixed = _opened(frame, made[0][1], "fixed", paths[0], located)
        files = [frame.path, *files]
    ids = unique([stem(file) for file in files], files, "image")
    parts = [Part(ids[0], fixed, files[0])] if fixed else []
    for (path, transform), name in zip(made, ids[len(parts) :], strict=True):
        moving = _opened(transform.moving, transform, "moving", path, located)
        image = aligned_image(moving, fixed, transform, style)
        parts.append(Part(name, image, str(transform.moving.path)))
    return parts, notes


def _check_frames(made: Sequence[tuple[Path, Transform]]) -> None:
    """Raise ``FileError`` for a failed transform, and for transforms whose fixed images differ."""
    first_path, first = made[0]
    for path, transform in made:
        if transform.quality.verdict == Verdict.FAILED:
            raise FileError(path, "has the verdict failed", "leave it out, or align its images again")
        one, other = first.fixed, transform.fixed
        hashes = one.sha256 is not None and other.sha256 is not None and one.sha256 != other.sha256
        if (one.width, one.height) != (other.width, other.height) or hashes:
            raise FileError(path, f"has another fixed image than {first_path}", "align all to one image")
        unknown = one.sha256 is None or other.sha256 is None
        if unknown and one.path != other.path:
            raise FileError(path, f"may have another fixed image than {first_path}", "align all to one image")


def _opened(
    frame: Frame, transform: Transform, kind: str, source: Path, located: Callable[[str], Path]
) -> Image:
    """An image of a transform, opened as it was aligned.

    Raises ``FileError`` when it is not there, or not the image that was aligned.
    """
    if frame.path is None:
        raise FileError(source, f"does not name its {kind} image", "merge needs transforms of image files")
    settings = transform.provenance.settings
    part = Selection(
        settings.get("series"),
        settings.get(f"{kind}_level") or 0,
        settings.get(f"{kind}_plane"),
        bool(settings.get("allow_truncated")),
    )
    path = located(frame.path)
    image = open_image(path, part).coloured()
    if image.size != (frame.height, frame.width):
        raise FileError(
            frame.path,
            f"is {image.size[1]} × {image.size[0]} pixels and was {frame.width} × {frame.height} when it was"
            " aligned",
            "align it again",
        )
    if frame.sha256 is not None and sha256(path) not in (None, frame.sha256):
        raise FileError(frame.path, "has changed since it was aligned", "align it again")
    return image
