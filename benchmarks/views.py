"""Images that share little: a small view in a large image, neighbours that hardly overlap, a chip in a scene.

    python -m benchmarks.views views                      # views of 64 to 400 px, both ways round
    python -m benchmarks.views overlaps                   # tiles that overlap by 7 to 25 %
    python -m benchmarks.views chips --side 10980         # 256 px in a scene on disk: seconds and memory
    python -m benchmarks.views views --real FOLDER        # also in tissue, a city and a satellite image

The truth is known: both images are cut from one scene, each with noise of 3 of 255 grey levels. Views
are cut as they are, or turned by any angle with ``--turned``. Overlaps are drawn three ways: ``stage``, a
shift with turns and scales ruled out by options; ``shift``, a shift that the program does not know to
be one; ``turn``, a shift and any turn. A result is right when its median error over the common part is
below 1 px (2 px after a turn).
"""

import argparse
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

import register
from benchmarks import results

Array = NDArray[Any]
NOISE = 3.0
"""Standard deviation of the noise of every image, in grey levels."""
SIZES, SHARES = (64, 100, 160, 240, 400), (0.07, 0.10, 0.15, 0.25)
REAL = {
    "tissue": "histology/birl_ratkidney_HE_PanCK/fixed_Rat-Kidney_HE.jpg",
    "city": "natural_planar/homogr_Brussels/fixed_BrusselsA.jpg",
    "satellite": "remote_sensing/*CS3/fixed*",
}
STAGE = {"model": "translation", "rotation_range": 0.0, "scale_range": 1.0}
TILE, IN_SCENE = 400, 0.5
"""Side, in pixels, of the tiles that overlap, and at most as a share of the scene's."""


@dataclass(frozen=True)
class Row:
    """One draw: what was drawn, the verdict, the median error over the common part, in moving pixels."""

    kind: str
    scene: str
    what: str
    seed: int
    verdict: str
    error: float
    expected: float | None
    seconds: float
    right: bool
    reasons: tuple[str, ...] = ()
    gigabytes: float | None = None


def fields(side: int, rng: np.random.Generator) -> Array:
    """Land: fields of different grey with rough borders, and soil of all scales, 8 bit (side, side)."""
    image = np.zeros((side, side), np.float32)
    for octave, weight in ((256, 24.0), (64, 14.0), (16, 9.0), (4, 6.0)):
        coarse = rng.normal(size=(side // octave + 3,) * 2).astype(np.float32)
        image += weight * cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    image += 110
    for _ in range(side * side // 12000):
        centre, half = rng.uniform(0, side, 2), rng.uniform(15, 60, 2)
        box = cv2.boxPoints((tuple(map(float, centre)), tuple(map(float, half)), float(rng.uniform(0, 180))))
        left, top = (int(max(n - 70, 0)) for n in centre)
        part = image[top : top + 140, left : left + 140]
        inside = np.zeros(part.shape, np.uint8)
        cv2.fillConvexPoly(inside, (box - [left, top]).astype(np.int32), 1)
        part += inside * np.float32(rng.normal(0, 22))
    return np.clip(image, 0, 255).astype(np.uint8)


def cells(side: int, rng: np.random.Generator) -> Array:
    """Nuclei of several sizes on a dim background, 8 bit (side, side)."""
    image = np.zeros((side, side), np.float32)
    for radius, share in ((3.0, 260), (5.0, 500), (8.0, 1500)):
        points = np.zeros((side, side), np.float32)
        places = rng.integers(0, side, (side * side // share // 2, 2))
        points[places[:, 1], places[:, 0]] = rng.uniform(0.4, 1.0, len(places))
        image = np.maximum(image, gaussian_filter(points, radius) * 2 * math.pi * radius**2)
    return np.clip(20 + 190 * image / np.quantile(image, 0.999), 0, 255).astype(np.uint8)


def stars(side: int, rng: np.random.Generator) -> Array:
    """Stars of all brightnesses, 25 in 100 × 100 pixels, seeing of 3 pixels, 8 bit (side, side)."""
    points = np.zeros((side, side), np.float32)
    places = rng.integers(0, side, (side * side // 400, 2))
    points[places[:, 1], places[:, 0]] = np.minimum(rng.pareto(1.2, len(places)) * 12 + 8, 400)
    return np.clip(12 + gaussian_filter(points, 1.3) * 2 * math.pi * 1.3**2, 0, 255).astype(np.uint8)


SCENES: dict[str, Callable[[int, np.random.Generator], Array]] = {
    one.__name__: one for one in (fields, cells, stars)
}


def scene_of(name: str, real: Path | None, side: int, rng: np.random.Generator) -> Array:
    """The scene of a name: drawn, or an image of the folder of real ones."""
    if name in SCENES:
        return SCENES[name](side, rng)
    assert real is not None
    return np.asarray(cv2.imread(str(min(real.glob(REAL[name]))), cv2.IMREAD_GRAYSCALE))


def noisy(image: Array, rng: np.random.Generator) -> Array:
    """An 8-bit image with noise."""
    return np.clip(np.rint(image + rng.normal(0, NOISE, image.shape)), 0, 255).astype(np.uint8)


def cut(image: Array, centre: Array, size: tuple[int, int], angle: float) -> tuple[Array, Array]:
    """A view of a size (height, width), turned by some degrees, and the map (2, 3) from its pixels to the
    scene's."""
    height, width = size
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    turn = np.array([[c, -s], [s, c]])
    matrix = np.column_stack([turn, centre - turn @ [(width - 1) / 2, (height - 1) / 2]])
    if angle == 0:
        left, top = np.rint(matrix[:, 2]).astype(int)
        return image[top : top + height, left : left + width], np.array([[1, 0, left], [0, 1, top]], float)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, matrix, (width, height), flags=flags), matrix


def measured(
    row: dict[str, Any], fixed: Array, moving: Array, truth: Array, limit: float, **settings: Any
) -> Row:
    """One pair aligned; ``truth`` (2, 3) maps fixed to moving pixels."""
    height, width = fixed.shape
    grid = np.stack(np.meshgrid(np.linspace(2, width - 3, 120), np.linspace(2, height - 3, 120)), -1)
    points = grid.reshape(-1, 2)
    target = points @ truth[:, :2].T + truth[:, 2]
    common = ((target > 1) & (target < np.array(moving.shape[::-1]) - 2)).all(1)
    start = time.perf_counter()
    try:
        found = register.align(fixed, moving, **settings)
    except register.RegisterError as error:
        return Row(**row, verdict=f"error: {error}", error=math.inf, expected=None, seconds=0.0, right=False)
    seconds = time.perf_counter() - start
    errors = np.linalg.norm(found.transform.map(points[common]) - target[common], axis=1)
    quality = found.quality
    return Row(
        **row,
        verdict=str(quality.verdict),
        error=round(float(np.median(errors)), 3),
        expected=quality.expected_error,
        seconds=round(seconds, 2),
        right=bool(np.median(errors) < limit),
        reasons=tuple(quality.reasons or ()),
    )


def inverted(matrix: Array) -> Array:
    """The inverse (2, 3) of a map (2, 3)."""
    inverse = np.linalg.inv(matrix[:, :2])
    return np.column_stack([inverse, -inverse @ matrix[:, 2]])


def view(name: str, image: Array, size: int, way: str, turned: bool, seed: int) -> Row:
    """A small view in an image, the small or the large one fixed."""
    rng = np.random.default_rng([seed, size, *name.encode()])
    angle = float(rng.uniform(-180, 180)) if turned else 0.0
    away = size * (0.75 if turned else 0.5) + 2
    centre = np.array([rng.uniform(away, n - away) for n in image.shape[::-1]])
    small, matrix = cut(image, centre, (size, size), angle)
    large, small = noisy(image, rng), noisy(small, rng)
    row = {"kind": way, "scene": name, "what": f"{size} px{' turned' if turned else ''}", "seed": seed}
    if way == "small fixed":
        return measured(row, small, large, matrix, 2.0 if turned else 1.0)
    return measured(row, large, small, inverted(matrix), 2.0 if turned else 1.0)


def overlap(name: str, image: Array, share: float, way: str, seed: int) -> Row:
    """Two tiles that overlap by a share of their width, with an offset of up to a tenth across."""
    rng = np.random.default_rng([seed, round(100 * share), *name.encode(), *way.encode()])
    angle = float(rng.uniform(-180, 180)) if way == "turn" else 0.0
    tile = min(TILE, int(IN_SCENE * min(image.shape)))
    along, which = tile * np.array([1 - share, rng.uniform(-0.1, 0.1)]), rng.integers(4)
    shift = [along, -along, along[::-1], -along[::-1]][which]
    room = tile / 2 + 2
    low, high = np.maximum(room, room - shift), np.array(image.shape[::-1]) - np.maximum(room, room + shift)
    centre = rng.uniform(low, high)
    fixed, at_fixed = cut(image, centre, (tile, tile), 0.0)
    moving, at_moving = cut(image, centre + shift, (tile, tile), angle)
    back = inverted(at_moving)
    truth = np.column_stack([back[:, :2] @ at_fixed[:, :2], back[:, :2] @ at_fixed[:, 2] + back[:, 2]])
    row = {"kind": way, "scene": name, "what": f"{share:.0%}", "seed": seed}
    asked = STAGE if way == "stage" else {}
    return measured(row, noisy(fixed, rng), noisy(moving, rng), truth, 2.0 if angle else 1.0, **asked)


def chip(name: str, image: Array, size: int, way: str, turned: bool, seed: int) -> Row:
    """A chip in a scene on disk, aligned by the command in a process of its own."""
    rng = np.random.default_rng([seed, size, *name.encode()])
    angle = float(rng.uniform(-180, 180)) if turned else 0.0
    centre = rng.uniform(size, np.array(image.shape[::-1]) - size)
    small, matrix = cut(image, centre, (size, size), angle)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{x}.tif" for x in ("chip", "scene")]
        tifffile.imwrite(paths[0], noisy(small, rng))
        tifffile.imwrite(paths[1], image, tile=(512, 512))
        truth = matrix if way == "small fixed" else inverted(matrix)
        order = paths if way == "small fixed" else paths[::-1]
        command = [sys.executable, "-m", "register", "align", *map(str, order), "-o", f"{folder}/out", "-q"]
        start = time.perf_counter()
        subprocess.run([*command, "--no-report"], check=False)
        seconds = time.perf_counter() - start
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        found = register.Transform.load(f"{folder}/out/transform.json")
    points = np.random.default_rng(0).uniform(2, size - 3, (200, 2))
    if way == "small moving":
        points = points @ matrix[:, :2].T + matrix[:, 2]
    target = points @ truth[:, :2].T + truth[:, 2]
    error = float(np.median(np.linalg.norm(found.map(points) - target, axis=1)))
    quality = found.quality
    return Row(
        way,
        name,
        f"{size} px in {image.shape[1]}",
        seed,
        str(quality.verdict),
        round(error, 3),
        quality.expected_error,
        round(seconds, 1),
        error < (2.0 if turned else 1.0),
        tuple(quality.reasons or ()),
        round(memory, 2),
    )


def draws(options: argparse.Namespace) -> list[Callable[[], Row]]:
    """The draws that are asked for."""
    made: list[Callable[[], Row]] = []
    names = options.scenes or [*SCENES, *(REAL if options.real else ())]
    for name in names:
        rng = np.random.default_rng([7, *name.encode()])
        image = scene_of(name, options.real, options.side, rng)
        for seed in range(options.seed, options.seed + options.draws):
            if options.kind == "overlaps":
                made += [
                    partial(overlap, name, image, share, way, seed)
                    for share in options.shares
                    for way in options.ways or ("stage", "shift", "turn")
                ]
                continue
            run = view if options.kind == "views" else chip
            made += [
                partial(run, name, image, size, way, options.turned, seed)
                for size in options.sizes or (SIZES if options.kind == "views" else (256,))
                for way in options.ways or ("small moving", "small fixed")
            ]
    return made


def summary(rows: list[Row]) -> str:
    """A line per kind and size: right, right and ``ok``, wrong and ``ok``, seconds."""
    lines = []
    for kind, what in sorted({(row.kind, row.what) for row in rows}):
        mine = [row for row in rows if (row.kind, row.what) == (kind, what)]
        right = [row for row in mine if row.right]
        bad = sum(not row.right and row.verdict == "ok" for row in mine)
        median = np.median([row.error for row in right]) if right else math.nan
        good = sum(row.verdict == "ok" for row in right)
        counts = f"right {len(right)} of {len(mine)}, right and ok {good}, wrong and ok {bad}"
        lines.append(
            f"{kind:12s} {what:20s} {counts};"
            f" median error {median:.3f} px; {np.median([row.seconds for row in mine]):.1f} s"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=("views", "overlaps", "chips"))
    parser.add_argument("--draws", type=int, default=2, help="draws per scene and size")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--sizes", type=int, nargs="+", help="sides of the views")
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES, help="overlaps")
    parser.add_argument("--ways", nargs="+", help="small moving, small fixed; or stage, shift, turn")
    parser.add_argument("--scenes", nargs="+", choices=[*SCENES, *REAL])
    parser.add_argument("--side", type=int, default=1500, help="side of a drawn scene")
    parser.add_argument("--turned", action="store_true", help="views and chips turned by any angle")
    parser.add_argument("--real", type=Path, metavar="FOLDER", help="folder with real images")
    results.add_options(parser)
    options = parser.parse_args()
    rows = []
    for run in draws(options):
        rows.append(row := run())
        memory = "" if row.gigabytes is None else f" {row.gigabytes:.2f} GB"
        print(
            f"{row.kind:12s} {row.scene:9s} {row.what:16s} {row.seed:3d} {row.verdict:8s}"
            f" error {row.error:8.3f} expected {row.expected} {row.seconds:6.1f} s{memory}"
            f" {'' if row.right else 'WRONG'} {'; '.join(row.reasons)}",
            flush=True,
        )
    print(summary(rows))
    results.keep(options, [asdict(row) for row in rows])


if __name__ == "__main__":
    main()
