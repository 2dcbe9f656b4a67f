"""Grey values that mislead: saturated debris, hot pixels, blank pages, drawings, masks, and units far from 1.

    python -m benchmarks.ranges [--draws 20] [--kinds debris hot form page plan mask units offset] [--seed 0]

Every pair has a known similarity map of a few degrees and pixels. A pair is right if the median error where
the fixed image shows something is below 0.1 px. Prints a line per pair, then the share
that is right and ``ok`` per kind, the wrong ones called ``ok``, and the share of pixels whose error is below
the expected error.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import cv2
import numpy as np

import register
from benchmarks import results
from benchmarks.accuracy import textures
from register.geometry import affine

WORDS = (
    "the slide was scanned again after washing and stained for a second marker before the cover slip came off"
)
LIMIT = {"mask": 0.3}
LARGEST = 0.1
"""Largest median error, in pixels, of a pair that is right."""


@dataclass(frozen=True)
class Drawn:
    """A pair: fixed and moving image (h, w), the true map (2, 3), and where the error counts, bool (h, w)."""

    fixed: np.ndarray
    moving: np.ndarray
    truth: np.ndarray
    judged: np.ndarray
    what: str


@dataclass(frozen=True)
class Row:
    """The figures of a pair; errors in pixels."""

    kind: str
    what: str
    verdict: str
    median: float
    p90: float
    expected: float | None
    below: float | None
    right: bool


def similarity(
    rng: np.random.Generator, shape: tuple[int, int], turn: float = 8, shift: float = 12
) -> np.ndarray:
    """A random map (2, 3) about the centre of an image."""
    centre = np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2])
    angle, scale = math.radians(rng.uniform(-turn, turn)), math.exp(rng.uniform(-0.03, 0.03))
    return affine.similarity(angle, scale, centre, centre + rng.uniform(-shift, shift, 2))


def warped(
    image: np.ndarray, matrix: np.ndarray, fill: float | None = None, order: int = cv2.INTER_CUBIC
) -> np.ndarray:
    """The image (h, w) whose points under the map ``matrix`` (2, 3) show those of ``image``."""
    border = {"borderMode": cv2.BORDER_REFLECT} if fill is None else {"borderValue": fill}
    return cv2.warpAffine(image, matrix, image.shape[::-1], flags=order, **border)


def near(image: np.ndarray) -> np.ndarray:
    """Where an image shows something: pixels near its edges."""
    edges = cv2.morphologyEx(image.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((3, 3))) > 0.1 * np.ptp(
        image
    )
    return cv2.dilate(edges.astype(np.uint8), np.ones((5, 5))) > 0


def content(rng: np.random.Generator, side: int = 360) -> np.ndarray:
    """A piece of a real texture (side, side) in [0, 1]."""
    known = textures()
    whole = known[rng.choice(["tissue", "retina", "gravel"])]
    y, x = (int(rng.integers(0, n - side)) for n in whole.shape)
    return whole[y : y + side, x : x + side].astype(np.float32)


def counts(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Photon counts of an image in [0, 1]."""
    return rng.poisson(200 + rng.uniform(2000, 8000) * np.clip(image, 0, 1)).astype(np.float64)


def blobs(rng: np.random.Generator, share: float, shape: tuple[int, int]) -> np.ndarray:
    """Dirt that covers a share of an image: bool (h, w)."""
    found, radius = np.zeros(shape, np.uint8), int(rng.integers(2, 12))
    while found.mean() < share:
        centre = int(rng.integers(0, shape[1])), int(rng.integers(0, shape[0]))
        cv2.circle(found, centre, int(rng.integers(max(radius // 2, 1), radius + 1)), 1, -1)
    return found > 0


def debris(rng: np.random.Generator) -> Drawn:
    """Saturated dirt on 0.3 to 8 % of one image or of both, at the same or at other places."""
    image = content(rng)
    matrix, share = similarity(rng, image.shape), math.exp(rng.uniform(math.log(0.003), math.log(0.08)))
    way, eight_bits = str(rng.choice(["fixed", "moving", "moves", "differs"])), rng.random() < 0.3
    one, other = blobs(rng, share, image.shape), blobs(rng, share, image.shape)
    if way == "moves":
        other = warped(one.astype(np.uint8), matrix, 0, cv2.INTER_NEAREST) > 0
    one, other = one & (way != "moving"), other & (way != "fixed")
    pair = []
    for picture, dirt in ((image, one), (warped(image, matrix), other)):
        grey = counts(rng, picture)
        grey, top = (grey * 60 / 8200, 255) if eight_bits else (grey, 65535)
        grey = np.where(dirt, top, np.clip(grey, 0, top))
        pair.append(grey.astype(np.uint8 if eight_bits else np.uint16))
    return Drawn(
        *pair, matrix, np.ones(image.shape, bool), f"{way} {share:.1%} {'8' if eight_bits else '16'} bits"
    )


def hot(rng: np.random.Generator) -> Drawn:
    """Hot pixels on 2 % of both images, at the same places of the sensor or at others."""
    image = content(rng)
    matrix, same, saturated = similarity(rng, image.shape), rng.random() < 0.5, rng.random() < 0.5
    first = rng.random(image.shape) < 0.02
    second = first if same else rng.random(image.shape) < 0.02
    pair = []
    for picture, bad in ((image, first), (warped(image, matrix), second)):
        heat = 65535 if saturated else rng.uniform(9000, 65535, image.shape)
        pair.append(np.where(bad, heat, counts(rng, picture)).clip(0, 65535).astype(np.uint16))
    what = f"{'same' if same else 'other'} places, {'saturated' if saturated else 'any value'}"
    return Drawn(*pair, matrix, np.ones(image.shape, bool), what)


def text(rng: np.random.Generator, shape: tuple[int, int] = (640, 500)) -> np.ndarray:
    """A page (h, w), uint8: lines of words, black on exactly white."""
    page, words = np.full(shape, 255, np.uint8), WORDS.split()
    size = rng.uniform(0.4, 0.6)
    for y in range(50, shape[0] - 40, int(rng.integers(22, 32))):
        line = " ".join(rng.choice(words, int(rng.integers(3, 6))))
        cv2.putText(page, line, (40, y), cv2.FONT_HERSHEY_SIMPLEX, size, 0, 1, cv2.LINE_AA)
    return page


def form(rng: np.random.Generator) -> Drawn:
    """A blank form and its filled, noisy scan."""
    blank = text(rng)
    for y in range(36, blank.shape[0] - 40, 38):
        for x in range(300, 470, 40):
            cv2.rectangle(blank, (x, y), (x + 16, y + 16), 0, 1)
    filled = blank.copy()
    for y in range(36, blank.shape[0] - 40, 38):
        x = 300 + 40 * int(rng.integers(0, 5))
        cv2.line(filled, (x - 2, y - 2), (x + 18, y + 18), 30, 2)
        cv2.line(filled, (x + 18, y - 2), (x - 2, y + 18), 30, 2)
    for _ in range(3):
        steps = np.cumsum(rng.normal(0, 9, (60, 2)), 0) + rng.uniform((100, 80), (380, 560))
        cv2.polylines(filled, [steps.astype(np.int32)], False, 40, 2)
    matrix = similarity(rng, blank.shape, turn=3, shift=20)
    scan = warped(filled, matrix, 255, cv2.INTER_LINEAR) * 0.9 + rng.normal(0, 5, blank.shape)
    return Drawn(blank, np.clip(scan, 0, 255).astype(np.uint8), matrix, near(blank), "")


def page(rng: np.random.Generator) -> Drawn:
    """A page of text and its copy, both clean or both noisy."""
    fixed, noisy = text(rng), rng.random() < 0.5
    matrix = similarity(rng, fixed.shape, turn=3, shift=20)
    moving = warped(fixed, matrix, 255)
    judged = near(fixed)
    if noisy:
        fixed, moving = (
            np.clip(x * 0.93 + rng.normal(0, 5, x.shape), 0, 255).astype(np.uint8) for x in (fixed, moving)
        )
    return Drawn(fixed, moving, matrix, judged, "noisy" if noisy else "clean")


def plan(rng: np.random.Generator) -> Drawn:
    """A floor plan: thin and thick walls, doors and labels on exactly white or exactly black."""
    drawn = np.full((520, 600), 255, np.uint8)

    def split(x0: int, y0: int, x1: int, y1: int, depth: int) -> None:
        cv2.rectangle(drawn, (x0, y0), (x1, y1), 0, int(rng.integers(1, 4)))
        if depth > 0 and min(x1 - x0, y1 - y0) >= 70:
            if x1 - x0 > y1 - y0:
                x = int(rng.integers(x0 + 30, x1 - 30))
                halves = (x0, y0, x, y1), (x, y0, x1, y1)
            else:
                y = int(rng.integers(y0 + 30, y1 - 30))
                halves = (x0, y0, x1, y), (x0, y, x1, y1)
            for half in halves:
                split(*half, depth - 1)
            return
        if rng.random() < 0.6:
            label = f"{rng.integers(10, 99)} m2"
            cv2.putText(drawn, label, (x0 + 8, (y0 + y1) // 2), 0, 0.4, 0, 1, cv2.LINE_AA)
        cv2.ellipse(drawn, (x0, y1), (24, 24), 0, 270, 360, 0, 1, cv2.LINE_AA)

    split(60, 50, 540, 470, 5)
    matrix, dark = similarity(rng, drawn.shape, turn=6), rng.random() < 0.3
    moving = warped(drawn, matrix, 255)
    if dark:
        drawn, moving = 255 - drawn, 255 - moving
    return Drawn(drawn, moving, matrix, near(drawn), "black" if dark else "white")


def mask(rng: np.random.Generator) -> Drawn:
    """A binary mask of objects of irregular outline."""
    smooth = cv2.GaussianBlur(rng.normal(size=(440, 480)).astype(np.float32), (0, 0), rng.uniform(5, 14))
    level = np.quantile(smooth, rng.uniform(0.6, 0.85))
    matrix = similarity(rng, smooth.shape)
    objects = smooth - level
    y, x = np.mgrid[:440, :480]
    objects = np.where(np.hypot(x - 240, y - 220) < 190, objects, -1e-3)
    moving = warped(objects, matrix, -1e-3)
    value = int(rng.choice([1, 255]))
    pair = [(picture > 0).astype(np.uint8) * value for picture in (objects, moving)]
    return Drawn(*pair, matrix, near(pair[0]), f"0 and {value}")


def units(rng: np.random.Generator) -> Drawn:
    """Values of any unit, from 1e-30 to 1e30, as 32 or 64 bits."""
    image = content(rng)
    matrix, unit = similarity(rng, image.shape), 10 ** rng.uniform(-30, 30)
    dtype = np.float32 if rng.random() < 0.5 else np.float64
    pair = [(counts(rng, x) / 1000 * unit).astype(dtype) for x in (image, warped(image, matrix))]
    return Drawn(*pair, matrix, np.ones(image.shape, bool), f"{unit:.0e} {dtype.__name__}")


def offset(rng: np.random.Generator) -> Drawn:
    """Values far from zero with a small range, as 64 bits: pressures, heights, times."""
    image = content(rng)
    matrix, far = similarity(rng, image.shape), 10 ** rng.uniform(2, 7) * rng.choice([-1, 1])
    pair = [far + counts(rng, x) * 1e-5 for x in (image, warped(image, matrix))]
    return Drawn(*pair, matrix, np.ones(image.shape, bool), f"{far:.3g} + {np.ptp(pair[0]):.2g}")


KINDS: dict[str, Callable[[np.random.Generator], Drawn]] = {
    kind.__name__: kind for kind in (debris, hot, form, page, plan, mask, units, offset)
}


def measure(kind: str, seed: int) -> Row:
    """Draw a pair of a kind, align it and compare with the truth."""
    drawn = KINDS[kind](np.random.default_rng([seed, *kind.encode()]))
    height, width = drawn.fixed.shape
    identity = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=2).astype(float)
    truth = affine.apply(drawn.truth, identity)
    judged = drawn.judged & ((truth > 8) & (truth < [width - 9, height - 9])).all(axis=2)
    try:
        found = register.align(drawn.fixed, drawn.moving)
    except register.RegisterError as error:
        return Row(kind, drawn.what, f"error: {error}", math.inf, math.inf, None, None, False)
    errors = np.linalg.norm(found.transform.map(identity[judged]) - truth[judged], axis=1)
    expected = np.asarray(found.transform.expected_error(identity[judged]))
    known = np.isfinite(expected)
    return Row(
        kind=kind,
        what=drawn.what,
        verdict=str(found.quality.verdict),
        median=float(np.median(errors)),
        p90=float(np.percentile(errors, 90)),
        expected=found.quality.expected_error,
        below=float(np.mean(errors[known] < expected[known])) if known.any() else None,
        right=float(np.median(errors)) < LIMIT.get(kind, LARGEST),
    )


def summary(rows: list[Row]) -> str:
    """A line per kind: right, right and ``ok``, wrong and ``ok``, and the share below the expected error."""
    lines = []
    for kind in dict.fromkeys(row.kind for row in rows):
        mine = [row for row in rows if row.kind == kind]
        right = sum(row.right for row in mine)
        good = sum(row.right and row.verdict == "ok" for row in mine)
        bad = sum(not row.right and row.verdict == "ok" for row in mine)
        below = [row.below for row in mine if row.below is not None]
        median = np.median([row.median for row in mine])
        share = f"{np.mean(below):.0%}" if below else "-"
        lines.append(
            f"{kind:8s} right {right}, right and ok {good}, wrong and ok {bad} of {len(mine)};"
            f" median error {median:.3f} px; {share} below the expected error"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=20, help="pairs per kind")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    results.add_options(parser)
    options = parser.parse_args()
    rows = []
    for kind in options.kinds:
        for seed in range(options.seed, options.seed + options.draws):
            rows.append(row := measure(kind, seed))
            below = "   -" if row.below is None else f"{row.below:4.0%}"
            print(
                f"{kind:7s} {seed:3d} {row.what:32s} {row.verdict:8s} median {row.median:8.3f}"
                f" p90 {row.p90:8.3f} expected {row.expected} below {below} {'' if row.right else 'WRONG'}",
                flush=True,
            )
    print(summary(rows))
    results.keep(options, [asdict(row) for row in rows])


if __name__ == "__main__":
    main()
