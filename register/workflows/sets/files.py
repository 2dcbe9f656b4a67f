"""The files of a set: transforms, aligned images, ``group.json``, the table, merged channels and volumes."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError, RegisterError
from register.files.atomic import refuse_inputs, remove, write_text
from register.images.pixels import EVERYTHING
from register.io.images.model import Image
from register.io.images.open import aligned_name
from register.io.movies.about import About
from register.io.movies.stack import Stack
from register.io.movies.tiff_write import stack_writer
from register.io.movies.write import format_of
from register.settings import Settings
from register.transforms import group_schema
from register.transforms.frame import Frame
from register.transforms.schema import Json
from register.workflows import merge
from register.workflows.aligned_image import OutputStyle, aligned_image, write_aligned
from register.workflows.batch import TRANSFORM
from register.workflows.job import RESULTS
from register.workflows.merge import MergeOptions, Part
from register.workflows.sets.images import SetImage
from register.workflows.sets.solve import Group, Member, opened

GROUP, SUMMARY, INDEX, LINKS = "group.json", "summary.csv", "index.html", "links"
Tick = Callable[[float], None]


@dataclass(frozen=True)
class Extras:
    """What is written besides transforms: aligned images, merged channels, and a volume.

    ``thickness`` is the distance of the images along z, in the unit of the pixel size.
    """

    images: bool = True
    merge: Path | None = None
    merging: MergeOptions = field(default_factory=MergeOptions)
    volume: Path | None = None
    thickness: float | None = None


def extras(
    images: bool, merged: Path | None, drop_repeated: bool, volume: Path | None, thickness: float | None,
    *, overwrite: bool,
) -> Extras:  # fmt: skip
    """What is written besides transforms. Raises ``RegisterError`` for files that cannot be written."""
    for path in (merged, volume):
        if path:
            merge.check_output(path, overwrite)
    if volume and volume.name.lower().endswith(".zarr"):
        raise FileError(volume, "cannot be a volume", "name an .ome.tif")
    if thickness is not None and not volume:
        raise RegisterError("--thickness is the distance of the planes of a --volume; name one")
    if drop_repeated and not merged:
        raise RegisterError("--drop-repeated concerns the channels of --merge; name a file for them")
    return Extras(images, merged, MergeOptions(drop_repeated=drop_repeated), volume, thickness)


def check_outputs(images: Sequence[SetImage], table: str | None, output: Path, extras: Extras) -> None:
    """Raise ``FileError`` where a result would replace an image, a mask or the table of the set."""
    named = [name for image in images for name in (image.path, image.mask) if name]
    inputs = [Path(name) for name in [*named, *([table] if table else [])]]
    results = [output / name for name in (GROUP, SUMMARY, INDEX, LINKS)]
    results += [output / image.id for image in images]
    for path in (*results, extras.merge, extras.volume):
        if path:
            refuse_inputs(path, *inputs)


def write(
    group: Group, output: Path, settings: Settings, extras: Extras, tick: Tick = lambda share: None
) -> None:
    """Write all files of a solved set but its page; ``group.json`` comes last. Raises ``RegisterError``."""
    aligned = {member.image.id: _aligned(member, settings) for member in group.members if member.transform}
    if extras.volume:
        check_volume(group, aligned, extras.thickness)
    check_outputs([member.image for member in group.members], None, output, extras)
    total, done = max(len(aligned) + bool(extras.merge) + bool(extras.volume), 1), 0
    (output / GROUP).unlink(missing_ok=True)
    for member in group.members:
        folder = output / member.image.id
        if not member.transform:
            _remove(folder, ())
            continue
        name = aligned_name(opened(member.image, settings), settings.format)
        _remove(folder, (name,) if extras.images else ())
        if extras.images:
            write_aligned(folder / name, aligned[member.image.id], OutputStyle.of(settings))
        folder.mkdir(parents=True, exist_ok=True)
        member.transform.save(folder / TRANSFORM)
        done += 1
        tick(done / total)
    if extras.merge:
        parts = [Part(x.image.id, aligned[x.image.id], x.image.path) for x in group.first]
        merge.write_parts(parts, extras.merge, extras.merging, style=OutputStyle.of(settings))
    if extras.volume:
        _write_volume(group, aligned, extras, settings)
    write_text(output / SUMMARY, table(group))
    values = group_values(group)
    group_schema.checked(values)
    write_text(output / GROUP, json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    tick(1.0)


def _aligned(member: Member, settings: Settings) -> Image:
    """An image on its common frame, computed when it is read."""
    assert member.transform is not None
    image = opened(member.image, settings)
    try:
        return aligned_image(image, None, member.transform, OutputStyle.of(settings))
    except RegisterError as error:
        raise FileError(member.image.path, str(error)) from None


def _remove(folder: Path, kept: Sequence[str]) -> None:
    """Remove the results of an earlier run from the folder of an image."""
    for name in RESULTS:
        if name not in kept:
            remove(folder / name)


def check_volume(group: Group, aligned: dict[str, Image], thickness: float | None) -> None:
    """Raise ``RegisterError`` unless all images of the first group have one type and number of channels."""
    first = None
    unknown = [x.image.path for x in group.first if not aligned[x.image.id].pixel_unit]
    if thickness is not None and unknown:
        raise RegisterError(f"--thickness is in the unit of the pixel size, and {unknown[0]} states none")
    for member in group.first:
        image = aligned[member.image.id].coloured()
        kind = image.dtype, image.channels, image.colour
        if first and kind != first[1]:
            raise RegisterError(
                f"--volume: {member.image.path} has {image.channels} channels of {image.dtype}, and"
                f" {first[0]} has {first[1][1]} of {first[1][0]}; a volume needs one kind of image"
            )
        first = first or (member.image.path, kind)


def _write_volume(group: Group, aligned: dict[str, Image], extras: Extras, settings: Settings) -> None:
    """The aligned images as z planes; an image without a place is a plane of fill values."""
    assert extras.volume is not None
    models = [aligned[member.image.id].coloured() for member in group.first]
    if not models:
        raise RegisterError("--volume: no image has a place in a common frame")
    like = models[0]
    if settings.compression == "jpeg":
        raise FileError(extras.volume, "cannot be written with jpeg", "use deflate or zstd")
    placed = [group.members[n].image.id if group.members[n] in group.first else None for n in group.order]
    source = Planes(tuple(aligned[name].coloured() if name else None for name in placed), like)
    stack = Stack(
        extras.volume.name.split(".")[0], (), source, rgb=like.colour == "rgb" and like.channels == 3,
        axis="Z", step=extras.thickness, pixel_size=like.pixel_size,
    )  # fmt: skip
    with stack_writer(extras.volume, About(stack, format_of("tiff", settings.compression)[1])) as add:
        for index in range(len(stack)):
            add(stack.frame(index))


@dataclass(frozen=True)
class Planes:
    """Aligned images as the planes of a volume; zeros where there is none."""

    images: tuple[Image | None, ...]
    like: Image

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows, columns of a plane."""
        return (self.like.channels, *self.like.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a value."""
        return self.like.dtype

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> NDArray[Any]:
        """One plane (c, h, w)."""
        image = self.images[index]
        return np.zeros(self.shape, self.dtype) if image is None else image.pixels[EVERYTHING]

    def close(self) -> None:
        """Nothing is open."""


def table(group: Group) -> str:
    """The text of ``summary.csv``: a row per image, in order."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["id", "image", "verdict", "reasons", "group", "expected_error", "links", "links_ok", "mirrored"]
    )
    for number in group.order:
        member = group.members[number]
        own = [x for x in group.links if number in (x.result.fixed, x.result.moving)]
        error = member.transform.quality.expected_error if member.transform else None
        area = member.transform.quality.det_global if member.transform else None
        writer.writerow(
            [
                member.image.id,
                member.image.path,
                member.verdict,
                "; ".join(member.reasons),
                member.group or "",
                "" if error is None else error,
                len(own),
                sum(x.result.verdict == "ok" for x in own),
                "yes" if area is not None and area < 0 else "",
            ]
        )
    return text.getvalue()


def group_values(group: Group) -> Json:
    """The content of ``group.json``."""
    ids = [member.image.id for member in group.members]
    names = [None if n is None else ids[n] for n in group.references]
    return {
        "format": "register-group",
        "version": 1,
        "frame": _frame(group.frames[0]) if group.frames else None,
        "reference": names[0] if names else None,
        "order": [ids[n] for n in group.order],
        "images": [_image(group.members[n]) for n in group.order],
        "links": [
            {
                "fixed": ids[fit.result.fixed],
                "moving": ids[fit.result.moving],
                "verdict": fit.result.verdict,
                "reasons": [fit.result.reasons] if fit.result.reasons else [],
                "weight": fit.weight,
                "expected_error": fit.result.outcome.expected_error,
                "residual": None if fit.residual is None else round(fit.residual, 4),
                "folder": f"links/{fit.result.outcome.id}",
            }
            for fit in group.links
        ],
        "groups": [
            {
                "frame": _frame(frame),
                "reference": name,
                "images": [ids[n] for n in group.order if group.members[n].group == number],
            }
            for number, (frame, name) in enumerate(zip(group.frames, names, strict=True), start=1)
        ],
        "notes": list(group.notes),
    }


def _image(member: Member) -> dict[str, object]:
    return {
        "id": member.image.id,
        "path": member.image.path,
        "transform": f"{member.image.id}/{TRANSFORM}" if member.transform else None,
        "verdict": str(member.verdict),
        "reasons": list(member.reasons),
        "group": member.group,
        "expected_error": member.transform.quality.expected_error if member.transform else None,
    }


def _frame(frame: Frame) -> dict[str, object]:
    size = frame.pixel_size
    return {
        "width": frame.width,
        "height": frame.height,
        "pixel_size": [size.x, size.y] if size else None,
        "pixel_unit": size.unit if size else None,
    }
