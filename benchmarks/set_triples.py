"""Real pairs with a third image: their moving image under a known warp."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates

import register
from benchmarks.accuracy import landmarks, largest_error, manifest, pictures
from benchmarks.synthetic import smooth_field
from register.geometry import affine

Array = np.ndarray
WARP, ANGLE, SCALE = 0.01, 12.0, 1.05
"""The largest displacement in diagonals of the image, the rotation in degrees, and the scale of the warp."""
KIDNEY = "birl_ratkidney_HE_PanCK"


@dataclass(frozen=True)
class Warp:
    """An image (h, w, c) under a known map, from its pixels to those of the original."""

    image: Array
    matrix: Array
    field: Array

    @classmethod
    def of(cls, image: Array, seed: int) -> "Warp":
        """A smooth random warp, rotated and scaled, of an image (h, w, c)."""
        height, width = image.shape[:2]
        middle = ((width - 1) / 2, (height - 1) / 2)
        matrix = affine.similarity(np.radians(ANGLE), 1 / SCALE, middle, middle)
        field = smooth_field(height, width, WARP * np.hypot(height, width), seed)
        made = cls(image, matrix, field)
        y, x = np.indices((height, width), dtype=float)
        at = made.map(np.stack([x, y], -1).reshape(-1, 2)).T[::-1]
        planes = [
            map_coordinates(image[..., c].astype(float), at, order=3, mode="constant", cval=_edge(image, c))
            for c in range(image.shape[2])
        ]
        values = np.stack(planes, -1).reshape(image.shape)
        info = np.iinfo(image.dtype) if image.dtype.kind in "iu" else None
        values = np.rint(values.clip(info.min, info.max)) if info else values
        return cls(values.astype(image.dtype), matrix, field)

    def map(self, points: Array) -> Array:
        """Points (n, 2) of the warped image in the original."""
        here = affine.apply(self.matrix, points)
        moved = [map_coordinates(self.field[..., k], points.T[::-1], order=3, mode="nearest") for k in (0, 1)]
        return here + np.stack(moved, -1)


def _edge(image: Array, channel: int) -> float:
    """The usual value along the border of an image, for what lies outside."""
    plane = image[..., channel]
    return float(np.median(np.concatenate([plane[0], plane[-1], plane[:, 0], plane[:, -1]])))


def run(options: argparse.Namespace) -> list[dict[str, object]]:
    """A row for every pair."""
    if options.folder is None:
        raise SystemExit("triples need --folder FOLDER with MANIFEST.csv and pairs with landmarks")
    entries = [x for x in manifest(options.folder) if x["id"] == KIDNEY or x["modality"] == "multi"]
    if options.pairs:
        entries = [x for x in manifest(options.folder) if x["id"] in options.pairs]
    rows = []
    for number, entry in enumerate(entries):
        rows.append(_row(options.folder, entry, number, options.preset))
        print(rows[-1], flush=True)
    return rows


def _row(folder: Path, entry: dict[str, str], seed: int, preset: str) -> dict[str, object]:
    """Loop closure and landmark errors of one pair with its third image."""
    fixed, moving = pictures(folder, entry, entry)
    source, target = landmarks(folder, entry)
    warp = Warp.of(moving, seed)
    group = register.align_group([fixed, moving, warp.image], reference=0, preset=preset)
    row: dict[str, object] = {"pair": entry["id"], "verdicts": [str(x.verdict) for x in group.members]}
    links = {(x.fixed, x.moving): x.transform for x in group.links}
    row["links"] = [str(x.verdict) for x in group.links]
    alone = links.get((0, 1))
    if alone is None or any(links.get(pair) is None for pair in ((0, 2), (1, 2))):
        return row | {"reasons": [x.reasons for x in group.links]}
    row["alone"] = _median(alone.map(source) - target)
    row["mean alone"] = _mean(alone.map(source) - target)
    there = links[1, 2].map(alone.map(source))
    inside = links[0, 2].moving.contains(there)
    closed = links[0, 2].inverse().map(there[inside])
    row["closure"] = _median(closed - source[inside])
    row["closure / alone"] = row["closure"] / row["alone"]
    for n, name in ((1, "joint"), (2, "joint by the third")):
        member = group.members[n]
        if member.transform is not None:
            found = member.transform.map(source)
            off = (found if n == 1 else warp.map(found)) - target
            row |= {name: _median(off), f"mean {name}": _mean(off)}
    row["third alone"] = _median(warp.map(links[0, 2].map(source)) - target)
    row["found"] = row["alone"] <= largest_error(entry, fixed.shape)
    return row


def _median(vectors: Array) -> float:
    """The median length of vectors (n, 2)."""
    return float(np.median(np.linalg.norm(vectors, axis=1)))


def _mean(vectors: Array) -> float:
    """The mean length of vectors (n, 2)."""
    return float(np.linalg.norm(vectors, axis=1).mean())
