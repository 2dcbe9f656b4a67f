"""Pieces of tissue on a slide: some exchanged, missing, or moved on their own, with the true map of each.

    python -m benchmarks.pieces                          # ten draws of each kind
    python -m benchmarks.pieces --kinds exchanged --draws 3 --verbose
    python -m benchmarks.pieces --image SLIDE.jpg        # pieces cut from an image

Every draw shows four to eight pieces of irregular outline on a bright slide, twice, with noise; the moving
image may have another contrast. ``clean``: all pieces move together. ``moved``: each is turned by up to
5° and shifted by up to 20 px on its own. ``exchanged``: some pieces lie at the places of others, turned by
up to 40°. ``missing``: some pieces are absent from the moving image. A patch is on tissue if at least half
of its cell is; it is wrong if its root mean square error over the tissue of its cell exceeds ``WRONG``
pixels, or if its piece is missing.
"""

import argparse
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage import color, data

import register
from register import Transform
from register.geometry import affine

HEIGHT, WIDTH, RADIUS = 560, 760, 105.0
"""Height and width of the images, and the mean radius of a piece at its largest, in pixels."""
SHEET = 1400
"""Side of the texture that pieces are cut from, in pixels."""
SLIDE = 0.94
WRONG = 4.0
"""Error in pixels from which a patch is wrong."""
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Piece:
    """A piece: its place in the texture, its outline as a radius (n,) by angle, and its poses (x, y, degrees)
    in the fixed and in the moving image; None where it is absent."""

    source: tuple[float, float]
    outline: Array
    fixed: tuple[float, float, float]
    moving: tuple[float, float, float] | None

    def inside(self, x: Array, y: Array) -> Array:
        """Whether points relative to the piece's centre lie on it: 1, 0, or between at the outline."""
        angle = np.arctan2(y, x) % (2 * np.pi)
        radius = np.interp(
            angle, np.linspace(0, 2 * np.pi, len(self.outline) + 1), np.append(self.outline, self.outline[0])
        )
        return 1 / (1 + np.exp(np.clip(np.hypot(x, y) - radius, -30, 30)))


@dataclass(frozen=True)
class Scene:
    """A fixed and a moving image in [0, 1], the true map (h, w, 2) of fixed pixels to moving ones (NaN on
    glass, infinite on missing pieces), and the number of pieces."""

    fixed: Array
    moving: Array
    truth: Array
    pieces: int


@dataclass(frozen=True)
class Row:
    """One draw and its outcome: patches on tissue, those that are wrong, wrong ones whose expected error is
    below the true one, and right ones without an expected error."""

    kind: str
    seed: int
    pieces: int
    verdict: str
    reasons: tuple[str, ...]
    on_tissue: int
    wrong: int
    wrong_claimed: int
    right_unknown: int
    right_median: float
    expected: float | None


def pose(at: tuple[float, float, float]) -> Array:
    """The map (2, 3) of points relative to a piece's centre to an image."""
    return affine.similarity(math.radians(at[2]), 1.0, np.zeros(2), np.array(at[:2]))


def texture_of(rng: np.random.Generator, image: Array | None) -> Array:
    """A sheet (SHEET, SHEET) of tissue in [0, 1]: of an image, of the sample of scikit-image, or drawn."""
    if image is None and rng.random() < 0.4:
        image = color.rgb2gray(data.immunohistochemistry())
    if image is not None:
        zoom = SHEET / min(image.shape)
        sheet = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)[:SHEET, :SHEET]
        if rng.random() < 0.5:
            sheet = sheet[:, ::-1]
        return np.clip(sheet, 0, 1)
    wide, middle, narrow = (gaussian_filter(rng.normal(size=(SHEET, SHEET)), s) for s in (22, 6, 1.8))
    wide, middle, narrow = (plane / plane.std() for plane in (wide, middle, narrow))
    glands, cells = 1 / (1 + np.exp(-4 * (middle + 0.4 * wide))), 1 / (1 + np.exp(-5 * (narrow - 0.8)))
    return np.clip(0.72 - 0.25 * glands - 0.3 * cells * (0.4 + 0.6 * glands) + 0.03 * wide, 0, 0.9)


def outline(rng: np.random.Generator, radius: float) -> Array:
    """Radii (180,) of a closed smooth outline."""
    angle = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    shape = sum(rng.normal(0, 0.14 / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in range(2, 7))
    return radius * np.clip(1 + np.asarray(shape), 0.75, 1.2)


def pieces_of(kind: str, rng: np.random.Generator) -> list[Piece]:
    """The pieces of a draw, on a jittered lattice of places, with their poses in both images."""
    columns, rows = (3, 2) if rng.random() < 0.5 else (4, 2)
    places = [
        ((c + 0.5) * WIDTH / columns + rng.uniform(-6, 6), (r + 0.5) * HEIGHT / rows + rng.uniform(-6, 6))
        for r in range(rows)
        for c in range(columns)
    ]
    count = int(rng.integers(4, len(places) + 1))
    places = [places[i] for i in rng.permutation(len(places))[:count]]
    alike = rng.random() < 0.4  # cores of an array, of equal outline
    radius = min(RADIUS, 0.4 * WIDTH / columns)
    shared = np.full(180, radius)
    cut = [((n % 4 + 0.5) * SHEET / 4, (n // 4 + 0.5) * SHEET / 4) for n in rng.permutation(16)]
    order, absent = np.arange(count), set[int]()
    if kind == "exchanged":
        chosen = rng.permutation(count)[: int(rng.integers(2, count + 1))]
        order[chosen] = order[np.roll(chosen, 1)]
    if kind == "missing":
        absent = set(rng.permutation(count)[: int(rng.integers(1, count // 2 + 1))].tolist())
    made = []
    together = (*rng.uniform(-15, 15, 2), rng.uniform(-3, 3))
    middle = np.array([WIDTH / 2, HEIGHT / 2])
    for n in range(count):
        own = outline(rng, radius * rng.uniform(0.8, 1.0)) if not alike else shared
        x, y = places[order[n]]
        turn = 0.0
        if kind == "moved":
            x, y, turn = x + rng.uniform(-20, 20), y + rng.uniform(-20, 20), rng.uniform(-5, 5)
        elif kind == "exchanged" and order[n] != n:
            turn = rng.uniform(-40, 40)
        elif kind in ("exchanged", "missing"):
            x, y, turn = x + rng.uniform(-3, 3), y + rng.uniform(-3, 3), rng.uniform(-1, 1)
        shared_map = affine.similarity(math.radians(together[2]), 1.0, middle, middle + together[:2])
        x, y = affine.apply(shared_map, np.array([[x, y]]))[0]
        where = (float(x), float(y), turn + together[2])
        made.append(Piece(cut[n], own, (*places[n], 0.0), None if n in absent else where))
    return made


def shown(pieces: list[Piece], sheet: Array, which: str, around: float) -> Array:
    """The image (HEIGHT, WIDTH) of all pieces on the slide, of brightness ``around``."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    image = np.full((HEIGHT, WIDTH), around)
    for piece in pieces:
        at = getattr(piece, which)
        if at is None:
            continue
        local = affine.apply(affine.invert(pose(at)), np.stack([columns, rows], 2))
        inside = piece.inside(local[..., 0], local[..., 1])
        x, y = local[..., 0] + piece.source[0], local[..., 1] + piece.source[1]
        read = cv2.remap(
            sheet, x.astype(np.float32), y.astype(np.float32), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        )
        image = inside * read + (1 - inside) * image
    return image


def scene(kind: str, seed: int, image: Array | None = None, noise: float | None = None) -> Scene:
    """One draw of a kind; ``noise`` is its standard deviation, at random by default."""
    rng = np.random.default_rng([seed, *kind.encode()])
    sheet, pieces = texture_of(rng, image), pieces_of(kind, rng)
    fixed, moving = (shown(pieces, sheet, which, SLIDE) for which in ("fixed", "moving"))
    contrast = rng.choice(["plain", "gamma", "inverted"], p=[0.5, 0.25, 0.25])
    if contrast == "gamma":
        moving = 0.9 * moving**1.6
    elif contrast == "inverted":
        moving = SLIDE - moving
    drawn = rng.uniform(0.0, 0.03)
    noise = drawn if noise is None else noise
    truth = np.full((HEIGHT, WIDTH, 2), np.nan)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    for piece in pieces:
        local = affine.apply(affine.invert(pose(piece.fixed)), np.stack([columns, rows], 2))
        on = piece.inside(local[..., 0], local[..., 1]) > 0.5
        truth[on] = np.inf if piece.moving is None else affine.apply(pose(piece.moving), local[on])
    fixed, moving = (np.clip(x + rng.normal(0, noise, x.shape), 0, 1) for x in (fixed, moving))
    return Scene(fixed, moving, truth, len(pieces))


def pixel_errors(transform: Transform, truth: Array) -> Array:
    """The error (h, w) of every pixel on tissue, infinite on missing pieces, NaN on glass."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    found = np.asarray(transform.map(np.stack([columns, rows], 2).reshape(-1, 2))).reshape(HEIGHT, WIDTH, 2)
    with np.errstate(invalid="ignore"):
        return np.linalg.norm(found - truth, axis=2)


def patch_errors(transform: Transform, truth: Array) -> Array:
    """The root mean square error (n,) of every patch over the tissue of its cell, infinite on missing pieces;
    NaN for patches that are less than half on tissue."""
    assert transform.grid is not None
    error, tissue = pixel_errors(transform, truth), ~np.isnan(truth[..., 0])
    made = []
    for x, y in transform.grid.centres().reshape(-1, 2):
        box = tuple(
            slice(max(round(c - s / 2), 0), max(round(c + s / 2), 0))
            for c, s in ((y, transform.grid.spacing[1]), (x, transform.grid.spacing[0]))
        )
        area = (box[0].stop - box[0].start) * (box[1].stop - box[1].start)
        own = error[box][tissue[box]]
        if len(own) * 2 < area or area == 0:
            made.append(np.nan)
        else:
            absent = np.isinf(own).mean() > 0.5
            made.append(np.inf if absent else float(np.sqrt(np.mean(own[np.isfinite(own)] ** 2))))
    return np.array(made)


def run(kind: str, seed: int, image: Array | None = None, noise: float | None = None) -> Row:
    """Draw one pair, align it, and compare what every patch on tissue claims with the truth."""
    drawn = scene(kind, seed, image, noise)
    alignment = register.align(drawn.fixed, drawn.moving)
    transform, quality = alignment.transform, alignment.quality
    true = patch_errors(transform, drawn.truth)
    known = transform.patch_figures.expected_error
    claimed = np.array([np.inf if e is None else e for e in known])
    on_tissue, wrong = ~np.isnan(true), true > WRONG
    right = on_tissue & ~wrong
    return Row(
        kind=kind,
        seed=seed,
        pieces=drawn.pieces,
        verdict=str(quality.verdict),
        reasons=tuple(quality.reasons),
        on_tissue=int(on_tissue.sum()),
        wrong=int(wrong.sum()),
        wrong_claimed=int((wrong & (claimed < true) & np.isfinite(claimed)).sum()),
        right_unknown=int((right & np.isinf(claimed)).sum()),
        right_median=round(float(np.median(true[right])), 3) if right.any() else math.nan,
        expected=quality.expected_error,
    )


def _counts(made: list[Row]) -> str:
    """Verdicts of one kind, and its patches: wrong, claimed though wrong, not claimed though right."""
    verdicts = [row.verdict for row in made]
    total = {name: sum(getattr(row, name) for row in made) for name in ("on_tissue", "wrong")}
    right = total["on_tissue"] - total["wrong"]
    claimed = sum(row.wrong_claimed for row in made) / max(total["wrong"], 1)
    silent = sum(row.right_unknown for row in made) / max(right, 1)
    counts = " ".join(f"{verdicts.count(name):7d}" for name in ("ok", "suspect", "failed"))
    return f"{counts} {total['on_tissue']:9d} {total['wrong']:6d} {claimed:10.1%} {silent:12.1%}"


KINDS = "clean", "moved", "exchanged", "missing"


def main() -> None:
    """Run the draws and print a table by kind."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--image", type=Path, metavar="FILE", help="cut the pieces from this image")
    parser.add_argument("--noise", type=float, help="standard deviation of the noise; by default 0 to 0.03")
    parser.add_argument("--verbose", action="store_true", help="print every draw")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the draws as JSON too")
    asked = parser.parse_args()
    image = None
    if asked.image:
        image = color.rgb2gray(register.read_image(asked.image).picture()[..., :3])
    head = "      ok suspect  failed on tissue  wrong  claimed right unknown"
    print(f"{'kind':10s} {head}")
    found = list[Row]()
    for kind in asked.kinds:
        made = []
        for seed in range(asked.first, asked.first + asked.draws):
            made.append(run(kind, seed, image, asked.noise))
            if asked.verbose:
                print("   ", asdict(made[-1]), flush=True)
        print(f"{kind:10s} {_counts(made)}", flush=True)
        found += made
    if asked.json:
        asked.json.write_text(json.dumps([asdict(row) for row in found], indent=1))


if __name__ == "__main__":
    main()
