"""The page of a set: small pictures of its images in their frame, and what is known about its links."""

from pathlib import Path

import numpy as np

from register.files.atomic import write_text
from register.geometry.arrays import Float64
from register.images import preprocess
from register.images.pyramid import Level
from register.io.images.masks import read_mask
from register.io.images.working import Validity, working_level
from register.report import group as drawing
from register.report.panels import Grey, sampled
from register.settings import Settings
from register.transforms.frame import Frame
from register.transforms.transform import Transform
from register.workflows.sets.file_links import LINKS
from register.workflows.sets.files import INDEX
from register.workflows.sets.solve import Group, Member, opened

SIDE = 420
"""Longest side, in pixels, of the pictures."""


def draw(group: Group, output: Path, settings: Settings) -> Path:
    """Draw ``index.html`` of a solved set, and return its path."""
    place = {number: n for n, number in enumerate(group.order)}
    rows = [_row(group.members[number], group, settings) for number in group.order]
    links = [
        drawing.LinkRow(
            place[fit.result.fixed], place[fit.result.moving], fit.result.verdict, fit.weight,
            fit.result.outcome.expected_error, fit.residual, fit.result.reasons,
            _report(output, fit.result.outcome.id),
        )
        for fit in group.links
    ]  # fmt: skip
    page = drawing.page(output.absolute().name, _facts(group), rows, links, group.notes)
    write_text(output / INDEX, page)
    return output / INDEX


def _facts(group: Group) -> list[tuple[str, str]]:
    """What is said about the set as a whole."""
    facts = [("images", str(len(group.members))), ("links", str(len(group.links)))]
    for number, (frame, reference) in enumerate(zip(group.frames, group.references, strict=True), start=1):
        name = "the mean of all images" if reference is None else group.members[reference].image.id
        title = "reference" if len(group.frames) == 1 else f"reference of group {number}"
        facts.append((title, f"{name}, {frame.width} × {frame.height} pixels"))
    residuals = [fit.residual for fit in group.links if fit.residual is not None and fit.weight > 0]
    if residuals:
        facts.append(("median residual of the links", f"{np.median(residuals):.2f} px"))
    return facts


def _report(output: Path, name: str) -> str | None:
    """The relative path of a link's own report, where there is one."""
    path = f"{LINKS}/{name}/report.html"
    return path if (output / path).exists() else None


def _row(member: Member, group: Group, settings: Settings) -> drawing.SetRow:
    """One image with its pictures, where it has a place in a frame of the first group."""
    before = after = None
    if member.transform is not None and member.group == 1:
        level = _level(member, settings)
        after = _drawn(level, member.transform, group.frames[0])
        identity = Transform("translation", group.frames[0], member.transform.moving, np.eye(2, 3))
        before = _drawn(level, identity, group.frames[0])
    error = member.transform.quality.expected_error if member.transform else None
    return drawing.SetRow(
        member.image.id, str(member.verdict), "; ".join(member.reasons), member.group, error, before, after
    )


def _level(member: Member, settings: Settings) -> Level:
    """A small grey level of an image, in [0, 1]."""
    image = opened(member.image, settings)
    mask = read_mask(member.image.mask, image.size) if member.image.mask else None
    channel = member.image.channel or settings.fixed_channel
    level, _ = working_level(image, Validity(image, settings.nodata, mask), SIDE, channel=channel)
    return Level(preprocess.normalise(level.image, level.mask), level.mask, level.original_from_level)


def _drawn(level: Level, transform: Transform, frame: Frame) -> Grey:
    """An image on a frame at a small size, NaN outside."""
    step = max(max(frame.width, frame.height) / SIDE, 1.0)
    return sampled(level, transform, _positions(frame.width, step), _positions(frame.height, step))


def _positions(side: int, step: float) -> Float64:
    """The centres of pixels of a given size along one axis."""
    count = max(int(side / step), 1)
    return np.asarray(np.linspace(0.5, count - 0.5, count) * step - 0.5, np.float64)
