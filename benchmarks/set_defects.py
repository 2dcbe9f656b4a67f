"""A stack with a torn, a lost, a foreign and a mirrored section and a spoilt link, beside one without."""

import argparse
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.sections import Array, Section, sections
from benchmarks.solved_sets import solved, written
from register.geometry import affine
from register.transforms.frame import Frame
from register.transforms.transform import Transform
from register.workflows.sets import solve as workflow

TEAR = 12
"""Pixels by which the halves of the torn section are apart."""
BESIDE = 0.1
"""Width of the strip on either side of the tear, in widths of the image, whose error is not counted: a smooth
map has no step."""
SPOILT = 9.0, -6.0
"""Pixels by which the link between the first two sections is moved by hand; it stays ``ok``."""
KEPT = (0.3, 0.7), (0.32, 0.69)
"""The part of the height and of the width of the lost section that is left: 15 %."""


@dataclass(frozen=True)
class Accident:
    """What happened to a section, and to which part (n,) of it points (n, 2) belong: 0 to none.

    The error is taken for each part by itself.
    """

    name: str
    section: Section
    part: Callable[[Array], Array] = lambda points: np.ones(len(points), int)


def torn(before: Section) -> Accident:
    """One half moved along the tear."""
    image, half = before.image.copy(), before.image.shape[1] // 2
    image[:, half:] = np.roll(image[:, half:], TEAR, axis=0)

    def place(points: Array) -> Array:
        moved = np.where(points[:, 0] >= half, TEAR, 0)
        return before.content(points - np.stack([0 * moved, moved], -1))

    def part(points: Array) -> Array:
        right, beside = points[:, 0] >= half, np.abs(points[:, 0] - half) < BESIDE * image.shape[1]
        return np.where(beside | (right & (points[:, 1] < TEAR)), 0, 1 + right)

    return Accident("torn", Section(image, place), part)


def lost(before: Section) -> Accident:
    """Most of the tissue replaced by background."""
    image = np.full_like(before.image, round(0.92 * 60000))
    ends = [[round(end * side) for end in ends] for ends, side in zip(KEPT, image.shape, strict=True)]
    kept = tuple(slice(*pair) for pair in ends)
    image[kept] = before.image[kept]

    def part(points: Array) -> Array:
        inside = [(points[:, 1 - k] >= ends[k][0]) & (points[:, 1 - k] < ends[k][1]) for k in (0, 1)]
        return (inside[0] & inside[1]).astype(int)

    return Accident("lost", replace(before, image=image), part)


def mirrored(before: Section) -> Accident:
    """Mounted the wrong way round."""
    last = before.image.shape[1] - 1

    def place(points: Array) -> Array:
        return before.content(np.stack([last - points[:, 0], points[:, 1]], -1))

    return Accident("mirrored", Section(before.image[:, ::-1].copy(), place))


def foreign(before: Section, seed: int) -> Accident:
    """A section of another block, of about the same outline."""
    return Accident("foreign", sections(1, max(before.image.shape), 10_000 + seed)[0])


def accidents(made: list[Section], seed: int) -> dict[int, Accident]:
    """The sections to which something happens, by their numbers."""
    two, four, six, eight = (round(share * len(made)) for share in (0.2, 0.4, 0.6, 0.8))
    return {
        two: torn(made[two]),
        four: lost(made[four]),
        six: foreign(made[six], seed),
        eight: mirrored(made[eight]),
    }


def errors(
    group: workflow.Group, made: list[Section], first: int, happened: dict[int, Accident]
) -> dict[int, float]:
    """The error of every placed section against section ``first``: medians inside the tissue, in pixels."""
    frame: Frame = group.frames[0]
    points = frame.sample_points(40)
    middle, radius = np.array([frame.width, frame.height]) / 2, 0.36 * min(frame.width, frame.height)
    points = points[np.linalg.norm(points - middle, axis=1) < radius]
    target, found = made[first].content(points), {}
    for n, member in enumerate(group.members):
        if member.transform is None or member.group != 1:
            continue
        there = member.transform.map(points)
        one = happened.get(n, Accident("", made[n]))
        off, part = np.linalg.norm(one.section.content(there) - target, axis=1), one.part(there)
        found[n] = max(float(np.median(off[part == value])) for value in set(part[part > 0].tolist()))
    return found


def spoil_link(path: Path) -> None:
    """Move the map of a finished link and leave its verdict."""
    link, shift = Transform.load(path), affine.translation(*SPOILT)
    matrices = None if link.matrices is None else affine.compose(shift, link.matrices)
    replace(link, matrix=affine.compose(shift, link.matrix), matrices=matrices).save(path)


def run(options: argparse.Namespace) -> list[dict[str, object]]:
    """A row for every section, and one for the whole set."""
    rows: list[dict[str, object]] = []
    for draw in range(options.draws):
        with tempfile.TemporaryDirectory() as place:
            rows += _draw(options, draw, options.folder / str(draw) if options.folder else Path(place))
    return rows


def _draw(options: argparse.Namespace, draw: int, folder: Path) -> list[dict[str, object]]:
    """The rows of one draw. Links that are in the folder from an earlier run are not aligned again."""
    made, first = sections(options.count, options.side, draw), options.count // 2
    happened = accidents(made, draw)
    if first in happened:
        raise SystemExit("use another --count: the reference is a section to which something happens")
    changed = [happened[n].section if n in happened else one for n, one in enumerate(made)]
    groups, seconds = [], []
    for name, some in (("clean", made), ("defects", changed)):
        (folder / name / "in").mkdir(parents=True, exist_ok=True)
        images = written(some, folder / name / "in")
        out = folder / name / "out"
        if name == "defects":
            _copy_links(folder, images, happened)
            solved(images, out, options.preset, reference=images[first].id)
            spoil_link(out / "links" / f"{images[0].id}--{images[1].id}" / "transform.json")
        group, time = solved(images, out, options.preset, reference=images[first].id)
        groups.append(group)
        seconds.append(round(time, 1))
    clean, spoilt = (errors(x, made, first, y) for x, y in zip(groups, ({}, happened), strict=True))
    rows: list[dict[str, object]] = []
    for n, member in enumerate(groups[1].members):
        one = happened.get(n)
        row = {"draw": draw, "section": n, "what": one.name if one else "", "verdict": str(member.verdict),
               "clean": clean.get(n), "error": spoilt.get(n),
               "reasons": "; ".join(member.reasons)}  # fmt: skip
        rows.append(row)
    ratios = {n: spoilt[n] / clean[n] for n in spoilt if n in clean and n != first}
    worst = max(ratios, key=lambda n: ratios[n])
    rows.append(
        {
            "draw": draw,
            "section": "all",
            "what": f"largest ratio: section {worst}",
            "ratio": ratios[worst],
            "intact": max(x for n, x in ratios.items() if n not in happened),
            "links": len(groups[1].links),
            "disagree": [f"{x.result.fixed}--{x.result.moving}" for x in workflow.disagreeing(groups[1])],
            "seconds": seconds,
        }
    )
    return rows


def _copy_links(folder: Path, images: list, happened: dict[int, Accident]) -> None:
    """Take over the links between sections to which nothing happened: their files are the same."""
    ids = {images[n].id for n in happened}
    for link in sorted((folder / "clean" / "out" / "links").iterdir()):
        target = folder / "defects" / "out" / "links" / link.name
        if link.is_dir() and not ids & set(link.name.removesuffix(".mirrored").split("--")):
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(link, target)
