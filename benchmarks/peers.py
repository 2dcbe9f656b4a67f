"""Other programs on the same pairs, with the same two threads.

    python -m benchmarks.peers --real FOLDER [--only NAME …] [--peers register sift …] [--json FILE]
    python -m benchmarks.peers --synthetic [--amplitude 0.04] [--side 1024]

Each program runs as its documentation first shows it: elastix with its default rigid, affine and B-spline
maps (Mattes mutual information, from the geometric centres), ANTs SyN, greedy affine (from the centres) and
deformable, SIFT with USAC (OpenCV), the same followed by DIS flow, ECC affine (OpenCV), phase correlation
followed by ILK (scikit-image), a homography by kornia's registrator, and FireANTs' affine and greedy maps;
the last two, and this package, on a GPU where there is one. ``fast`` is this package with that preset,
``program`` is ``register align`` from files to files, with its report. FireANTs asks for an old SimpleITK:
``pip install --no-deps fireants``.

Every program gets the same two grey images in [0, 1] at full size. A pair is found if its median rTRE is at
most 1 %, or its median TRE at most 1.5 times the noise of its landmarks. A program that raises an exception
or takes longer than the limit has not found the pair; one that is not installed is named. Every run is a
separate process. Seconds are of the registration, after its modules were loaded, and of the complete process,
which ends with the displacement field written. For every pair the ratios of seconds and errors to those of
each other program are printed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

THREADS = "2"
LIMIT = 300
"""Seconds after which a run is ended."""
OURS = "program", "register", "fast"
PACKAGES = {
    **dict.fromkeys(OURS, "register"),
    **dict.fromkeys(("sift", "dis", "ecc"), "cv2"),
    "elastix": "itk",
    "ants": "ants",
    "greedy": "picsl_greedy",
    "ilk": "skimage",
    "kornia": "kornia",
    "fireants": "fireants",
}
"""The package that each program needs."""
LATE = {
    "register": ("register.api", ()),
    "elastix": ("itk", ("elastix_registration_method", "transformix_deformation_field", "image_from_array")),
}
LATE["fast"] = LATE["register"]
LATE["program"] = ("register.transforms.transform", ())
"""Modules, and names in them, that packages load when they are first used; loaded before the clock starts."""

Field = np.ndarray
"""Where each fixed pixel lands in the moving image: (h, w, 2), x and y."""


def by_register(fixed: np.ndarray, moving: np.ndarray) -> Field:
    import register

    return register.align(fixed, moving).transform.field().numpy() + _fixed_image(fixed)


def by_fast(fixed: np.ndarray, moving: np.ndarray) -> Field:
    import register

    return register.align(fixed, moving, preset="fast").transform.field().numpy() + _fixed_image(fixed)


def by_program(fixed: np.ndarray, moving: np.ndarray) -> Field:
    import register

    return register.Transform.load("out/transform.json").field().numpy() + _fixed_image(fixed)


def by_elastix(fixed: np.ndarray, moving: np.ndarray) -> Field:
    import itk

    maps = itk.ParameterObject.New()
    for name in ("rigid", "affine", "bspline"):
        chosen = maps.GetDefaultParameterMap(name)
        chosen["Metric"] = ["AdvancedMattesMutualInformation"] + (
            ["TransformBendingEnergyPenalty"] if name == "bspline" else []
        )
        maps.AddParameterMap(chosen)
    images = [itk.image_from_array(np.ascontiguousarray(x, np.float32)) for x in (fixed, moving)]
    _, found = itk.elastix_registration_method(*images, parameter_object=maps, log_to_console=False)
    shift = itk.array_from_image(itk.transformix_deformation_field(images[1], found))
    return np.asarray(shift)[..., :2] + _fixed_image(fixed)


def by_ants(fixed: np.ndarray, moving: np.ndarray) -> Field:
    import ants

    images = [ants.from_numpy(np.ascontiguousarray(x.T, np.float32)) for x in (fixed, moving)]
    found = ants.registration(*images, type_of_transform="SyN", random_seed=1)
    import pandas as pd

    points = pd.DataFrame(_fixed_image(fixed).reshape(-1, 2), columns=["x", "y"])
    mapped = ants.apply_transforms_to_points(2, points, found["fwdtransforms"])
    return mapped[["x", "y"]].to_numpy().reshape(*fixed.shape, 2)


def by_greedy(fixed: np.ndarray, moving: np.ndarray) -> Field:
    import SimpleITK as sitk
    from picsl_greedy import Greedy2D

    program = Greedy2D()
    images = [sitk.GetImageFromArray(np.ascontiguousarray(x, np.float32)) for x in (fixed, moving)]
    metric = "-i fixed moving -m NCC 4x4 -threads 2"
    program.execute(
        f"{metric} -a -dof 12 -ia-image-centers -n 100x50x20 -o affine",
        fixed=images[0],
        moving=images[1],
        affine=None,
    )
    program.execute(f"{metric} -it affine -n 100x50x20 -o warp", warp=None)
    program.execute("-rf fixed -r warp affine -rc composed", composed=None)
    shift = sitk.GetArrayFromImage(program["composed"])
    return shift[..., :2] + _fixed_image(fixed)


def by_sift(fixed: np.ndarray, moving: np.ndarray) -> Field:
    import cv2

    sift = cv2.SIFT_create()
    (one, a), (other, b) = (sift.detectAndCompute((x * 255).astype(np.uint8), None) for x in (fixed, moving))
    pairs = [
        x[0] for x in cv2.BFMatcher().knnMatch(a, b, 2) if len(x) == 2 and x[0].distance < 0.8 * x[1].distance
    ]
    ends = [
        np.float64([points[getattr(m, name)].pt for m in pairs])
        for points, name in ((one, "queryIdx"), (other, "trainIdx"))
    ]
    homography, _ = cv2.findHomography(*ends, cv2.USAC_MAGSAC, 3.0)
    return _project(homography, fixed)


def by_dis(fixed: np.ndarray, moving: np.ndarray) -> Field:
    import cv2

    start = by_sift(fixed, moving).astype(np.float32)
    images = [
        np.uint8(np.clip(x, 0, 1) * 255)
        for x in (fixed, cv2.remap(moving.astype(np.float32), start, None, cv2.INTER_LINEAR))
    ]
    at = _fixed_image(fixed) + cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(
        *images, None
    )
    return cv2.remap(start, at.astype(np.float32), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def by_ecc(fixed: np.ndarray, moving: np.ndarray) -> Field:
    import cv2

    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 500, 1e-6)
    images = [np.ascontiguousarray(x, np.float32) for x in (fixed, moving)]
    _, matrix = cv2.findTransformECC(
        *images, np.eye(2, 3, dtype=np.float32), cv2.MOTION_AFFINE, stop, None, 5
    )
    return _project(np.vstack([matrix, [0, 0, 1]]), fixed)


def by_ilk(fixed: np.ndarray, moving: np.ndarray) -> Field:
    from scipy.ndimage import shift as shifted
    from skimage.registration import optical_flow_ilk, phase_cross_correlation

    same = np.zeros_like(fixed)
    rows, columns = (min(x) for x in zip(fixed.shape, moving.shape, strict=True))
    same[:rows, :columns] = moving[:rows, :columns]
    move = phase_cross_correlation(fixed, same)[0]
    flow = optical_flow_ilk(fixed, shifted(same, move), radius=15)
    return np.stack([flow[1] - move[1], flow[0] - move[0]], axis=2) + _fixed_image(fixed)


def by_kornia(fixed: np.ndarray, moving: np.ndarray) -> Field:
    from kornia.geometry.conversions import denormalize_homography
    from kornia.geometry.transform import ImageRegistrator

    size = tuple(map(max, fixed.shape, moving.shape))  # it wants equal sizes
    padded = [
        _on_device(np.pad(x, [(0, n - m) for n, m in zip(size, x.shape, strict=True)]))[None, None]
        for x in (fixed, moving)
    ]
    registrator = ImageRegistrator("homography", num_iterations=200).to(padded[0].device)
    found = denormalize_homography(
        registrator.register(padded[1], padded[0]).detach(), size, size, align_corners=False
    )
    return _project(found[0].double().cpu().numpy(), fixed)


def by_fireants(fixed: np.ndarray, moving: np.ndarray) -> Field:
    import SimpleITK as sitk
    import torch
    from fireants.io.image import BatchedImages, Image
    from fireants.registration.affine import AffineRegistration
    from fireants.registration.greedy import GreedyRegistration

    device = _on_device(fixed[:1, :1]).device
    images = [
        BatchedImages(
            [Image(sitk.GetImageFromArray(np.ascontiguousarray(x, np.float32)), device=str(device))]
        )
        for x in (fixed, moving)
    ]
    shared = {"optimizer": "Adam", "cc_kernel_size": 5, "progress_bar": False}
    linear = AffineRegistration([8, 4, 2, 1], [200, 100, 50, 20], *images, optimizer_lr=3e-3, **shared)
    linear.optimize()
    start = linear.get_affine_matrix().detach()
    deformable = GreedyRegistration(
        [4, 2, 1],
        [200, 100, 50],
        *images,
        deformation_type="compositive",
        optimizer_lr=0.5,
        init_affine=start,
        **shared,
    )
    deformable.optimize()
    found = deformable.get_warp_parameters(*images)
    grid = (
        torch.nn.functional.affine_grid(found["affine"], (1, 1, *fixed.shape), align_corners=True)
        + found["grid"]
    )
    return (grid[0].detach().double().cpu().numpy() + 1) / 2 * (np.array(moving.shape[::-1]) - 1)


PEERS: dict[str, Callable[[np.ndarray, np.ndarray], Field]] = {
    "program": by_program,
    "register": by_register,
    "fast": by_fast,
    "elastix": by_elastix,
    "ants": by_ants,
    "greedy": by_greedy,
    "sift": by_sift,
    "dis": by_dis,
    "ecc": by_ecc,
    "ilk": by_ilk,
    "kornia": by_kornia,
    "fireants": by_fireants,
}


def _fixed_image(fixed: np.ndarray) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(fixed.shape[1]), np.arange(fixed.shape[0])), axis=2).astype(float)


def _on_device(image: np.ndarray):
    """An image as a tensor on the GPU, where there is one."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(image, np.float32)).to(
        "cuda" if torch.cuda.is_available() else "cpu"
    )


def _project(homography: np.ndarray, fixed: np.ndarray) -> Field:
    points = np.concatenate([_fixed_image(fixed), np.ones((*fixed.shape, 1))], axis=2) @ homography.T
    return points[..., :2] / points[..., 2:]


def run_one(name: str, folder: Path) -> None:
    """One peer on ``pair.npz``, in this process; writes ``field.npy`` and prints the seconds of the
    registration."""
    folder = folder.resolve()
    pair = np.load(folder / "pair.npz")
    fixed, moving = pair["fixed"], pair["moving"]
    module, parts = LATE.get(name, (PACKAGES[name], ()))
    for part in parts:
        getattr(import_module(module), part)
    import_module(module)
    os.chdir(folder)  # some write beside what they return
    begin = time.perf_counter()
    field = PEERS[name](fixed, moving)
    print(f"seconds {time.perf_counter() - begin:.3f}")
    np.save(folder / "field.npy", np.asarray(field, np.float64))


class Run(NamedTuple):
    """The field of a run (None if it failed), the seconds of the registration and of the complete process."""

    field: Field | None
    seconds: float
    whole: float


def run_separately(name: str, fixed: np.ndarray, moving: np.ndarray) -> Run:
    """One peer in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        np.savez(Path(scratch) / "pair.npz", fixed=fixed, moving=moving)
        threads = dict.fromkeys(
            (
                "OMP_NUM_THREADS",
                "MKL_NUM_THREADS",
                "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
                "OPENBLAS_NUM_THREADS",
            ),
            THREADS,
        )
        options = {
            "env": os.environ | threads,
            "capture_output": True,
            "text": True,
            "timeout": LIMIT,
            "check": True,
        }
        spent = 0.0
        begin = time.perf_counter()
        try:
            if name == "program":
                spent = _align_files(Path(scratch), fixed, moving, options)
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.peers", "--run", name, scratch], **options
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return Run(None, time.perf_counter() - begin, time.perf_counter() - begin)
        whole = time.perf_counter() - begin
        seconds = [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("seconds ")]
        return Run(np.load(Path(scratch) / "field.npy"), spent or seconds[-1], spent or whole)


def _align_files(folder: Path, fixed: np.ndarray, moving: np.ndarray, options: dict) -> float:
    """Seconds of ``register align`` on two files, TIFF of 32 bits."""
    import tifffile

    names = [str(folder / f"{name}.tif") for name in ("fixed", "moving")]
    for name, image in zip(names, (fixed, moving), strict=True):
        tifffile.imwrite(name, image.astype(np.float32))
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "register", "align", *names, "-o", str(folder / "out"), "-q"], **options
    )
    return time.perf_counter() - begin


def ratios(errors: dict[str, float], runs: dict[str, Run]) -> None:
    """Print the seconds and the error of this package as shares of those of every other program."""
    others = [name for name in runs if name not in OURS]
    for ours in (name for name in OURS if name in runs and others):
        seconds = {name: run.whole if ours == "program" else run.seconds for name, run in runs.items()}
        shares = []
        for name in others:
            time_share, error_share = seconds[ours] / seconds[name], errors[ours] / errors[name]
            shares.append(f"{name} {time_share:.2f} of the time, {error_share:.2f} of the error")
        print(f"  {ours}: {'; '.join(shares)}", flush=True)


def at_points(field: Field, points: np.ndarray) -> np.ndarray:
    """The field (h, w, 2) at points (n, 2); outside, its value at the border."""
    from scipy.ndimage import map_coordinates

    return np.stack(
        [map_coordinates(field[..., k], points.T[::-1], order=1, mode="nearest") for k in (0, 1)], axis=1
    )


def folded(field: Field) -> int:
    """The number of pixels whose Jacobian determinant does not have the sign of most."""
    dx, dy = np.gradient(field, axis=1), np.gradient(field, axis=0)
    det = dx[..., 0] * dy[..., 1] - dx[..., 1] * dy[..., 0]
    return int((det * np.sign(np.median(det)) <= 0).sum())


def real_pairs(folder: Path, only: list[str]):
    """Name, category, images, landmarks and the limit of the median TRE of every counted pair."""
    from benchmarks import accuracy

    for entry in accuracy.manifest(folder):
        wanted = not only or any(word in entry["id"] for word in only)
        if entry["id"].startswith(accuracy.NOT_COUNTED) or not wanted:
            continue
        images = [_grey(np.moveaxis(image, 2, 0)) for image in accuracy.pictures(folder, entry, entry)]
        points = accuracy.landmarks(folder, entry)
        yield entry["id"], entry["category"], images, points, accuracy.largest_error(entry, images[0].shape)


def _grey(planes: np.ndarray) -> np.ndarray:
    """A grey image in [0, 1], scaled by its robust range."""
    plane = planes[:3].astype(float)
    plane = plane[0] if len(plane) < 3 else 0.299 * plane[0] + 0.587 * plane[1] + 0.114 * plane[2]
    low, high = np.nanpercentile(plane, (0.5, 99.5))
    return np.clip((np.nan_to_num(plane) - low) / max(high - low, 1e-12), 0, 1)


def real(folder: Path, only: list[str], peers: list[str]) -> list[dict]:
    rows = []
    for name, category, images, points, limit in real_pairs(folder, only):
        errors, runs = dict[str, float](), dict[str, Run]()
        for peer in peers:
            run = runs[peer] = run_separately(peer, *images)
            error = (
                np.inf
                if run.field is None
                else float(np.median(np.linalg.norm(at_points(run.field, points[0]) - points[1], axis=1)))
            )
            rtre = errors[peer] = 100 * error / np.hypot(*images[0].shape)
            row = {
                "pair": name,
                "category": category,
                "peer": peer,
                "rtre": rtre,
                "found": bool(error <= limit),
            }
            rows.append(
                row
                | {
                    "seconds": run.seconds,
                    "whole": run.whole,
                    "folds": 0 if run.field is None else folded(run.field),
                }
            )
            seconds = f"{run.seconds:6.1f} s, whole process {run.whole:.1f} s, {rows[-1]['folds']} folds"
            outcome = "found" if error <= limit else "-"
            print(f"{name:28s} {peer:9s} rTRE {rtre:8.3f} % {outcome:6s} {seconds}", flush=True)
        ratios(errors, runs)
    return rows


def summary(rows: list[dict], peers: list[str]) -> None:
    """Per category and peer: found of all, median rTRE, median seconds, folded pixels."""
    for category in [*sorted({row["category"] for row in rows}), "all"]:
        for peer in peers:
            mine = [row for row in rows if row["peer"] == peer and category in (row["category"], "all")]
            found = sum(row["found"] for row in mine)
            rtre, seconds = (np.median([row[name] for row in mine]) for name in ("rtre", "seconds"))
            folds = sum(row["folds"] for row in mine)
            counts = f"{found:3d} of {len(mine):3d}"
            print(f"{category:22s} {peer:9s} {counts}  rTRE {rtre:8.3f} %  {seconds:6.1f} s  {folds} folds")


def synthetic(amplitude: float, peers: list[str], side: int | None, only: list[str]) -> None:
    """Median and 90th percentile of the TRE in textured pixels, one warp per texture, plain contrast with 2 %
    noise."""
    from skimage.transform import resize

    from benchmarks.accuracy import textures
    from benchmarks.synthetic import textured, warped_pair

    for name, texture in textures().items():
        if only and name not in only:
            continue
        if side:
            texture = resize(texture, (side, side), anti_aliasing=True)
        pair = warped_pair(texture, amplitude, 1, noise=0.02)
        truth = pair.moving_from_fixed
        judged = ((truth >= 0) & (truth <= np.array(texture.shape[::-1]) - 1)).all(axis=2) & textured(
            warped_pair(texture, amplitude, 1).fixed
        )
        medians, runs = dict[str, float](), dict[str, Run]()
        for peer in peers:
            run = runs[peer] = run_separately(peer, pair.fixed, pair.moving)
            errors = (
                np.full(1, np.inf) if run.field is None else np.linalg.norm(run.field - truth, axis=2)[judged]
            )
            medians[peer] = float(np.median(errors))
            figures = f"median {medians[peer]:7.3f} px, p90 {np.percentile(errors, 90):7.3f} px"
            seconds = f"{run.seconds:6.1f} s, whole process {run.whole:.1f} s"
            print(f"{name:9s} {amplitude:.0%} {peer:9s} {figures}, {seconds}", flush=True)
        ratios(medians, runs)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--real", type=Path, metavar="FOLDER", help="folder with MANIFEST.csv and pairs")
    parser.add_argument("--synthetic", action="store_true", help="textures under known warps")
    parser.add_argument(
        "--amplitude", type=float, default=0.04, help="largest displacement over the diagonal"
    )
    parser.add_argument("--side", type=int, help="resize the textures to so many pixels each way")
    parser.add_argument(
        "--only", nargs="*", default=[], help="words in the names of the pairs to run, or textures"
    )
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run_one(options.run[0], Path(options.run[1]))
        return
    missing = [name for name in options.peers if find_spec(PACKAGES[name]) is None]
    if missing:
        print(f"not installed, and so not compared: {', '.join(missing)} (pip install 'register-cli[peers]')")
    peers = [name for name in options.peers if name not in missing]
    if options.real:
        rows = real(options.real, options.only, peers)
        summary(rows, peers)
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1))
    if options.synthetic:
        synthetic(options.amplitude, peers, options.side, options.only)


if __name__ == "__main__":
    main()
