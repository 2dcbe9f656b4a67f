"""The files of a set: transforms, aligned images, ``group.json``, the table, merged channels and volumes."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from register.errors import FileError, RegisterError
from register.files.atomic import refuse_inputs, remove, write_text
from register.io.images import storable
from register.io.images.model import Image
from register.io.images.open import aligned_name, open_header, stored
from register.settings import Settings
from register.transforms import group_schema
from register.transforms.frame import Frame
from register.transforms.resample import check_fill
from register.transforms.schema import Json
from register.workflows import merge
from register.workflows.aligned_image import OutputStyle, aligned_image, write_aligned
from register.workflows.batch import TRANSFORM
from register.workflows.job import RESULTS
from register.workflows.merge import MergeOptions, Part
from register.workflows.sets import volume
from register.workflows.sets.images import SetImage
from register.workflows.sets.solve import Group, Member, opened, selection

PNG_ADVICE = "use --format ome-tiff, or choose a channel: --plane C=0"
"""What to do where a PNG cannot hold an image."""
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
    images: bool, merged: Path | None, drop_repeated: bool, stacked: Path | None, thickness: float | None,
    *, compression: str, overwrite: bool, dtype: str | None = None,
) -> Extras:  # fmt: skip
    """What is written besides transforms. Raises ``RegisterError`` for files that cannot be written."""
    for option, path in (("--merge", merged), ("--volume", stacked)):
        if path:
            merge.check_output(path, overwrite, option)
    if stacked:
        volume.check_compression(stacked, compression)
    if thickness is not None and not stacked:
        raise RegisterError("--thickness is the distance of the planes of a --volume; name one")
    if drop_repeated and not merged:
        raise RegisterError("--drop-repeated concerns the channels of --merge; name a file for them")
    if dtype and not merged:
        raise RegisterError("--dtype is the type of the values of --merge; name a file for them")
    merging = MergeOptions(drop_repeated=drop_repeated, dtype=dtype)
    return Extras(images, merged, merging, stacked, thickness)


def check_outputs(images: Sequence[SetImage], table: str | None, output: Path, extras: Extras) -> None:
    """Raise ``FileError`` where a result would replace an image, a mask or the table of the set, or another
    result."""
    named = [name for image in images for name in (image.path, image.mask) if name]
    inputs = [Path(name) for name in [*named, *([table] if table else [])]]
    results = [output / name for name in (GROUP, SUMMARY, INDEX, LINKS)]
    results += [output / image.id for image in images]
    for path in results:
        refuse_inputs(path, *inputs)
    for option, extra in (("--merge", extras.merge), ("--volume", extras.volume)):
        if extra:
            refuse_inputs(extra, *inputs, option=option)
            if any(_overlap(extra, path) for path in results):
                raise FileError(extra, "lies among the other results of the set", f"choose another {option}")
    if extras.merge and extras.volume and _overlap(extras.merge, extras.volume):
        raise FileError(extras.volume, "is named by --merge and by --volume", "choose two names")


def _overlap(one: Path, other: Path) -> bool:
    """Whether two paths are the same, or one lies in the other."""
    one, other = one.resolve(), other.resolve()
    return one == other or one in other.parents or other in one.parents


def check_images(images: Sequence[SetImage], settings: Settings, extras: Extras) -> None:
    """Raise ``RegisterError`` where the images, by their headers, cannot be written as is asked.

    One that cannot be read is left out.
    """
    known = [(image, found) for image in images if (found := _header(image, settings)) is not None]
    for image, found in known if extras.images else ():
        check_fill(settings.fill, found.dtype)
        name, pixels = _name(found, settings), found.interpolated(settings.interpolation)
        storable.check(image.path, pixels, name, settings.compression, PNG_ADVICE)
    if extras.merge and known:
        parts = [
            Part(image.id, found.interpolated(settings.interpolation), image.path) for image, found in known
        ]
        values = np.zeros((1, 1, 1), merge.type_of(parts, extras.merging))
        merged = Image(values, kind="ome")
        storable.check(extras.merge, merged, str(extras.merge), settings.compression, PNG_ADVICE)
    if extras.volume:
        volume.check([(image.path, found) for image, found in known], None)
        if extras.thickness is not None and not any(found.pixel_size for _, found in known):
            volume.check([(image.path, found) for image, found in known], extras.thickness)


def _header(image: SetImage, settings: Settings) -> Image | None:
    """What the header of an image says; None where it cannot be read."""
    try:
        return open_header(image.path, selection(settings))
    except RegisterError:
        return None


def _name(image: Image, settings: Settings) -> str:
    """The name of the file of an aligned image."""
    return aligned_name(image, stored(settings.aligned_format, settings.compression, settings.pyramid))


def write(
    group: Group, output: Path, settings: Settings, extras: Extras, tick: Tick = lambda share: None
) -> None:
    """Write all files of a solved set but its page; ``group.json`` comes last.

    Raises ``RegisterError`` for the first image that cannot be written, after the others, the table and
    ``group.json`` were.
    """
    check_outputs([member.image for member in group.members], None, output, extras)
    (output / GROUP).unlink(missing_ok=True)
    wrong = _write_images(group, output, settings, extras, tick)
    write_text(output / SUMMARY, table(group))
    values = group_values(group)
    group_schema.checked(values)
    write_text(output / GROUP, json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    tick(1.0)
    if wrong:
        raise wrong[0]


def _write_images(
    group: Group, output: Path, settings: Settings, extras: Extras, tick: Tick
) -> list[RegisterError]:
    """Write transforms, aligned images, merged channels and the volume; the errors of what could not be."""
    aligned, wrong = dict[str, Image](), list[RegisterError]()
    total = len(group.members) + bool(extras.merge) + bool(extras.volume)
    for done, member in enumerate(group.members, start=1):
        try:
            _write_member(member, output, settings, extras.images, aligned)
        except RegisterError as error:
            wrong.append(error)
        tick(done / total)
    whole = all(member.image.id in aligned for member in group.first)
    for path, write_one in ((extras.merge, _write_merged), (extras.volume, _write_volume)):
        if path and not group.first:  # an older file would be taken for the result
            remove(path)
        elif path and whole:
            try:
                write_one(group, aligned, settings, extras)
            except RegisterError as error:
                wrong.append(error)
    return wrong


def _write_member(
    member: Member, output: Path, settings: Settings, with_image: bool, aligned: dict[str, Image]
) -> None:
    """Write the transform of an image and its aligned image, which is added to ``aligned``."""
    folder = output / member.image.id
    if not member.transform:
        _remove(folder, ())
        return
    name = _name(opened(member.image, settings), settings)
    _remove(folder, (name,) if with_image else ())
    folder.mkdir(parents=True, exist_ok=True)
    member.transform.save(folder / TRANSFORM)
    image = aligned[member.image.id] = _aligned(member, settings)
    if with_image:
        write_aligned(folder / name, image, OutputStyle.of(settings))


def _write_merged(group: Group, aligned: Mapping[str, Image], settings: Settings, extras: Extras) -> None:
    """Write the channels of the first group into one file."""
    assert extras.merge is not None
    parts = [Part(x.image.id, aligned[x.image.id], x.image.path) for x in group.first]
    style = replace(OutputStyle.of(settings), pages=False)
    merge.write_parts(parts, extras.merge, extras.merging, style=style)


def _write_volume(group: Group, aligned: Mapping[str, Image], settings: Settings, extras: Extras) -> None:
    """Write the images of the first group as z planes of one file."""
    assert extras.volume is not None
    volume.write(group, aligned, extras.volume, extras.thickness, settings)


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
