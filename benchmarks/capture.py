"""Capture range: where the search finds a pair, over rotation, scale, overlap, contrast and flip.

    python -m benchmarks.capture [--step 15] [--scales 0.5 0.71 1 1.41 2] [--overlaps 0.6 0.3]
                                 [--contrasts plain inverted folded] [--flip] [--texture tissue]
                                 [--json FILE] [--figure FILE]

Two square views of one texture are rotated and scaled relative to each other, about the point that puts the
given share of the smaller view inside the larger one; both carry 2 % noise. A pair is found if the mean error
of the start, over the fixed pixels that lie inside the moving view, is at most 3 % of the diagonal of the
moving image. Views with the same or inverted contrast are found by their features, most folded ones by
correlation. The default grid takes a quarter of an hour; the table gives the share found per scale, overlap
and contrast.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.accuracy import textures
from benchmarks.synthetic import SIDE, views
from register import settings
from register.engine.fit.working_copy import working_copy
from register.engine.initial import search
from register.engine.initial.search_range import SearchRange
from register.geometry import affine
from register.images import pyramid


def found(fixed: np.ndarray, moving: np.ndarray, truth: torch.Tensor, flip: bool) -> tuple[bool, float]:
    """Whether the start is within 3 % of the true map, and the seconds of the search."""
    chosen = settings.check(allow_flip=flip)
    levels = [torch.from_numpy(x).float()[None] for x in (fixed, moving)]
    begin = time.perf_counter()
    a, b = (
        working_copy(pyramid.base(x), 2048, name) for x, name in zip(levels, ("fixed", "moving"), strict=True)
    )
    effort = settings.PRESETS[chosen.preset]
    start = search.find(a, b, [SearchRange("local", 180.0, effort.candidates, flip=flip)])
    seconds = time.perf_counter() - begin
    grid = torch.cartesian_prod(
        torch.linspace(0, SIDE - 1, 20, dtype=torch.float64),
        torch.linspace(0, SIDE - 1, 20, dtype=torch.float64),
    )
    target = affine.apply(truth, grid)
    inside = ((target >= 0) & (target <= SIDE - 1)).all(dim=1)
    error = (affine.apply(start.matrix, grid) - target).norm(dim=1)[inside].mean()
    return bool(error <= 0.03 * SIDE * math.sqrt(2)), seconds


def figure(rows: list[dict], path: Path) -> None:
    """A heat map per contrast and overlap: rotation along x, scale along y, green found."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    cases = sorted({(row["contrast"], row["overlap"], row["flip"]) for row in rows})
    fig, axes = plt.subplots(
        len(cases), 1, figsize=(9, 1.6 + 1.6 * len(cases)), squeeze=False, layout="constrained"
    )
    for axis, case in zip(axes[:, 0], cases, strict=True):
        mine = [row for row in rows if (row["contrast"], row["overlap"], row["flip"]) == case]
        angles, scales = (sorted({row[name] for row in mine}) for name in ("angle", "scale"))
        shares = np.array([[_share(mine, scale=s, angle=a) for a in angles] for s in scales])
        picture = axis.imshow(shares, vmin=0, vmax=1, cmap="cividis", aspect="auto")
        axis.set_xticks(range(len(angles)), [f"{a:g}°" for a in angles], fontsize=7)
        axis.set_yticks(range(len(scales)), [f"{s:g}" for s in scales], fontsize=7)
        title = f"{case[0]}, {case[1]:.0%} overlap{', mirrored' if case[2] else ''}: {_share(mine):.0%} found"
        axis.set_title(title, fontsize=9)
        axis.set_ylabel("scale", fontsize=8)
    fig.colorbar(picture, ax=axes[:, 0], label="share found")
    fig.savefig(path, dpi=110)


def _share(rows: list[dict], **values: float) -> float:
    """The share of pairs that were found, of the rows with given values."""
    return float(np.mean([row["found"] for row in rows if values.items() <= row.items()]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--step", type=float, default=15.0, help="degrees between rotations")
    parser.add_argument("--scales", type=float, nargs="+", default=[0.5, 0.71, 1.0, 1.41, 2.0])
    parser.add_argument("--overlaps", type=float, nargs="+", default=[0.6, 0.3])
    parser.add_argument("--contrasts", nargs="+", default=["plain", "inverted", "folded"])
    parser.add_argument(
        "--flip", action="store_true", help="mirror the moving view and search with --allow-flip"
    )
    parser.add_argument("--texture", nargs="+", default=["tissue"])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    rows, known = [], textures()
    for contrast in options.contrasts:
        for overlap in options.overlaps:
            for scale in options.scales:
                for texture in options.texture:
                    for angle in np.arange(0, 360, options.step).tolist():
                        pair = views(
                            known[texture], angle, scale, overlap, contrast, options.flip, seed=int(angle)
                        )
                        hit, seconds = found(*pair, options.flip)
                        row = {
                            "texture": texture,
                            "contrast": contrast,
                            "overlap": overlap,
                            "scale": scale,
                            "angle": angle,
                            "flip": options.flip,
                        }
                        rows.append(row | {"found": hit, "seconds": seconds})
                mine = [
                    r for r in rows if (r["contrast"], r["overlap"], r["scale"]) == (contrast, overlap, scale)
                ]
                missed = ", ".join(f"{r['texture']} {r['angle']:g}°" for r in mine if not r["found"])
                seconds = np.median([r["seconds"] for r in mine])
                print(
                    f"{contrast:9s} overlap {overlap:4.0%} scale {scale:4g}: "
                    f"{_share(mine):4.0%} of {len(mine)}, "
                    f"median {seconds:.1f} s{'; missed ' + missed if missed else ''}",
                    flush=True,
                )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    if options.figure:
        figure(rows, options.figure)


if __name__ == "__main__":
    main()
