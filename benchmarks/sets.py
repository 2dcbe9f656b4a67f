"""Sets of images with known truth: errors between neighbours and over the set, drift, defects, order, cost.

    python -m benchmarks.sets sections [--count 12] [--side 600] [--draws 1] [--preset balanced]
    python -m benchmarks.sets defects [--count 12] [--side 600] [--draws 1] [--folder LINKS]
    python -m benchmarks.sets triples --folder FOLDER [--pairs ID ...]
    python -m benchmarks.sets simulated [--count 60] [--draws 3]
    python -m benchmarks.sets order [--count 12] [--side 400] [--draws 3]
    python -m benchmarks.sets rounds --count 5 --side 2000 [--folder SCRATCH]
    python -m benchmarks.sets cost [--count 12] [--side 1000] [--every 4]

Sections are textures that decorrelate by a factor of 0.8 each, under warps that add up, any rotation, on
canvases of different sizes. An error is the distance of the points of the content that two images show at the
same place of the common frame, inside the tissue. ``chain`` is the same links between neighbours put together
by ``compose``; ``SIFT chain`` and ``SIFT star`` are affine maps by OpenCV between neighbours, and to the
reference; ``stackreg`` is pystackreg's, where that is installed, on canvases padded to one size. VALIS and
palom (libvips, Java) and Fiji (Java) are not run here.

``defects`` is the same with one section torn, one that lost 85 % of its tissue, one foreign, one mirrored
and one link spoilt by hand; the error of each section against the reference is compared with that without
defects. ``triples`` takes real pairs a, b with landmarks and makes c from b by a known warp: the loop a to b
to c to a by the three alignments, and the error at the landmarks of the pair alone and of the joint solution.
``simulated`` draws links with smooth errors of up to 0.15 px instead of aligning images. ``rounds`` are
images of four channels with DAPI at different places, aligned and merged by ``register group``; all pixels
of the last one in the merged file are compared with those of ``register apply``. ``cost`` is the time of
``register group`` over that of ``register align`` for its links.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates

from benchmarks import results, set_defects, set_rounds, set_triples
from benchmarks.sections import Array, Section, by_sift, by_stackreg, sections
from benchmarks.solved_sets import solved, written
from benchmarks.synthetic import smooth_field
from register import settings
from register.engine.group import fields, graph, solution
from register.engine.group.links import Link
from register.geometry import affine
from register.geometry.patch_grid import PatchGrid
from register.transforms import compose
from register.transforms.frame import Frame
from register.transforms.quality import PatchFigures, Quality
from register.transforms.transform import Transform
from register.workflows.sets import solve as workflow


def errors(maps: dict[int, Callable[[Array], Array]], made: list[Section], frame: Frame) -> dict[str, float]:
    """Medians of the errors between neighbours, and from the first image to the last, in pixels."""
    points = frame.sample_points(40)
    middle, radius = np.array([frame.width, frame.height]) / 2, 0.36 * min(frame.width, frame.height)
    points = points[np.linalg.norm(points - middle, axis=1) < radius]
    shown = {n: made[n].content(maps[n](points)) for n in sorted(maps)}
    order = list(shown)
    apart = [np.linalg.norm(shown[a] - shown[b], axis=1) for a, b in pairwise(order)]
    ends = np.linalg.norm(shown[order[0]] - shown[order[-1]], axis=1)
    return {
        "neighbours": float(np.median([np.median(x) for x in apart])),
        "worst neighbours": float(max(np.median(x) for x in apart)),
        "first to last": float(np.median(ends)),
        "images": len(order),
    }


def chained(group: workflow.Group, count: int) -> dict[int, Callable[[Array], Array]]:
    """The maps from the reference by the links between neighbours alone, put together by ``compose``."""
    known = {(x.result.fixed, x.result.moving): x.result.transform for x in group.links}
    first = group.references[0] or 0
    found = {first: known[first, first + 1] if first + 1 < count else compose.invert(known[first - 1, first])}
    maps: dict[int, Callable[[Array], Array]] = {first: lambda points: points}
    for step in (1, -1):
        made = None
        for n in range(first + step, count if step > 0 else -1, step):
            pair = (n - 1, n) if step > 0 else (n, n + 1)
            link = known.get(pair)
            if link is None or link.quality.verdict == "failed":
                break
            link = link if step > 0 else compose.invert(link)
            made = link if made is None else compose.compose(made, link)
            maps[n] = made.map
    del found
    return maps


def run_sections(options: argparse.Namespace) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for draw in range(options.draws):
        made = sections(options.count, options.side, draw)
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            (folder / "in").mkdir()
            images = written(made, folder / "in")
            group, seconds = solved(images, folder / "out", options.preset)
        maps = {n: x.transform.map for n, x in enumerate(group.members) if x.transform and x.group == 1}
        frame, first = group.frames[0], group.references[0] or 0
        row = {"method": "group", "draw": draw, "seconds": round(seconds, 1), **errors(maps, made, frame)}
        rows.append(row | {"links": len(group.links)})
        ways = {
            "chain": chained(group, len(made)),
            "SIFT chain": by_sift(made, first, star=False),
            "SIFT star": by_sift(made, first, star=True),
            "stackreg chain": by_stackreg(made, first),
        }
        for name, found in ways.items():
            if len(found) > 1:
                rows.append({"method": name, "draw": draw, **errors(found, made, frame)})
    return rows


def run_simulated(options: argparse.Namespace) -> list[dict[str, object]]:
    """Drift of a long stack, from links with smooth errors: joint solution and chain."""
    side = 600
    frame, grid = Frame(side, side), PatchGrid.cover(side, side, 60)
    points = frame.sample_points(25)
    rows: list[dict[str, object]] = []
    for draw in range(options.draws):
        count, truth, links = options.count, [], []
        field = np.zeros((grid.rows, grid.columns, 2))
        for n in range(count):
            field = field + (on_grid(side, grid, 1.0, 7000 * draw + n) if n else 0)
            turn = affine.similarity(0.7 * n, 1.0, (side / 2, side / 2), (side / 2, side / 2))
            truth.append(Transform("local", frame, frame, turn, grid, fields.maps_of(grid, turn, field)))
        for number, (a, b) in enumerate(graph.neighbours(range(count), 2)):
            exact = compose.compose(compose.invert(truth[a]), truth[b])
            centres = grid.centres().reshape(-1, 2)
            wish = exact.map(centres) + on_grid(side, grid, 0.15, 90000 * (draw + 1) + number).reshape(-1, 2)
            move = (affine.apply(affine.invert(exact.matrix), wish) - centres).reshape(field.shape)
            figures = PatchFigures(expected_error=(0.15,) * grid.count)
            made = Transform(
                "local", frame, frame, exact.matrix, grid, fields.maps_of(grid, exact.matrix, move),
                patch_figures=figures, quality=Quality(verdict="ok"),
            )  # fmt: skip
            links.append(Link.of(a, b, made))
        middle = count // 2
        inside = points[np.linalg.norm(points - side / 2, axis=1) < 0.4 * side]
        begin = time.perf_counter()
        joint = solution.solve([frame] * count, range(count), links, reference=middle).transforms
        seconds = time.perf_counter() - begin
        known = {(x.fixed, x.moving): x.transform for x in links}
        base = truth[middle].map(inside)
        there = {n: truth[n].inverse().map(joint[n].map(base)) for n in (0, count - 1)}
        row = {name: float(np.median(np.linalg.norm(there[n] - inside, axis=1))) for name, n in
               (("first image", 0), ("last image", count - 1))}  # fmt: skip
        rows.append({"method": "group", "draw": draw, "seconds": round(seconds, 1), **row})
        chain = {}
        for name, end, step in (("first image", 0, -1), ("last image", count - 1, 1)):
            at = base
            for n in range(middle, end, step):
                at = known[n, n + 1].map(at) if step > 0 else known[n - 1, n].inverse().map(at)
            chain[name] = float(np.median(np.linalg.norm(truth[end].inverse().map(at) - inside, axis=1)))
        rows.append({"method": "chain", "draw": draw, **chain})
    return rows


def on_grid(side: int, grid: PatchGrid, amplitude: float, seed: int) -> Array:
    """A smooth field at the centres of a grid."""
    dense = smooth_field(64, 64, amplitude, seed)
    at = (grid.centres() + 0.5) / side * 63
    return np.stack(
        [map_coordinates(dense[..., k], [at[..., 1], at[..., 0]], order=3, mode="nearest") for k in (0, 1)],
        -1,
    )


def run_order(options: argparse.Namespace) -> list[dict[str, object]]:
    rows = []
    for draw in range(options.draws):
        made, rng = sections(options.count, options.side, 50 + draw), np.random.default_rng(draw)
        place = rng.permutation(options.count)
        with tempfile.TemporaryDirectory() as folder:
            images = written([made[n] for n in place], Path(folder))
            chosen = settings.check()
            begin = time.perf_counter()
            found = workflow.open_set(images, chosen)
            order, _ = workflow.planned_links(images, found, workflow.GroupOptions("auto"), chosen)
            seconds = time.perf_counter() - begin
        steps = np.abs(np.diff(place[order]))
        rows.append({"draw": draw, "right": bool(steps.max() == 1), "wrong steps": int((steps != 1).sum()),
                     "seconds": round(seconds, 1)})  # fmt: skip
    return rows


def run_cost(options: argparse.Namespace) -> list[dict[str, object]]:
    """The whole command against one ``register align`` per link, in seconds and in processor seconds."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "in").mkdir()
        images = written(sections(options.count, options.side, 0), folder / "in")
        preset = ["--preset", options.preset]
        whole = timed(["group", str(folder / "in"), "-o", str(folder / "out"), *preset])
        links = graph.neighbours(range(len(images)), 2)
        alone = []
        for one, other in links[:: options.every]:
            pair = [images[one].path, images[other].path]
            alone.append(timed(["align", *pair, "-o", str(folder / f"{one}-{other}"), *preset]))
        made = len(json.loads((folder / "out" / "group.json").read_text())["links"])
    wall, cpu = (sum(part) / len(alone) * len(links) for part in zip(*alone, strict=True))
    return [{"group": whole[0], "align of each link": wall, "ratio": whole[0] / wall, "CPU group": whole[1],
             "CPU align of each link": cpu, "CPU ratio": whole[1] / cpu, "timed links": len(alone),
             "links": made}]  # fmt: skip


def timed(command: list[str]) -> tuple[float, float]:
    """Seconds, and seconds of processors, of one command."""
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "register", *command], check=False, capture_output=True)
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


RUNS = {
    "sections": run_sections,
    "defects": set_defects.run,
    "triples": set_triples.run,
    "simulated": run_simulated,
    "order": run_order,
    "rounds": set_rounds.run,
    "cost": run_cost,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=RUNS)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--side", type=int, default=600)
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--every", type=int, default=1, help="time only every Nth link alone (cost)")
    parser.add_argument("--preset", default="balanced")
    parser.add_argument(
        "--folder",
        type=Path,
        help="pairs with landmarks (triples); where links are kept (defects), or files for a while (rounds)",
    )
    parser.add_argument(
        "--pairs", nargs="*", help="ids of the pairs (triples); all multimodal ones by default"
    )
    results.add_options(parser)
    options = parser.parse_args()
    rows = RUNS[options.what](options)
    for row in rows:
        print(
            ", ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()),
            flush=True,
        )
    results.keep(options, rows)


if __name__ == "__main__":
    main()
