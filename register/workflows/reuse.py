"""What is done with a saved transform: other images, points, the other direction, checks. Files in, files out."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from register.engine.quality.landmarks import landmark_errors
from register.errors import FileError, RegisterError
from register.files.atomic import refuse_existing, write_text
from register.geometry import affine
from register.images import interpolation
from register.io.images import tiff
from register.io.images.open import WHOLE_IMAGE, Image, Selection, aligned_name, open_image
from register.io.points.open import read_point_file, read_points
from register.transforms import compose as algebra
from register.transforms.transform import Frame, Inverse, Link, Transform
from register.workflows.aligned_image import PLAIN, OutputStyle, aligned_image, write_aligned

IMAGE_SUFFIXES = (".tif", ".tiff", ".png")
OUTSIDE = 0.01
"""Share by which an image's two sides may disagree about its scale."""


@dataclass(frozen=True)
class Moved:
    """One image that was warped: where from, where to, its size and at what scale of the registered images."""

    source: str
    file: str
    width: int
    height: int
    scale: float


def apply(
    transform: Transform,
    images: list[Path],
    output: Path,
    *,
    inverse: bool = False,
    labels: bool = False,
    scale: float | None = None,
    style: OutputStyle = PLAIN,
    part: Selection = WHOLE_IMAGE,
    overwrite: bool = False,
    tick: Callable[[float], None] = lambda share: None,
) -> list[Moved]:
    """Warp images onto the fixed grid, or with ``inverse`` onto the moving one; ``labels`` are read by nearest neighbour and filled with 0.

    ``output`` is a file for one image when it ends like one, else a folder. Raises ``FileError`` when an image has not the shape the
    transform expects, or a result is there already.
    """
    names = _outputs(images, output)
    for name in names:
        refuse_existing(name, overwrite)
    style = replace(style, interpolation="nearest", fill="0") if labels else style
    done: list[Moved] = []
    for path, name in zip(images, names, strict=True):
        image = open_image(path, part)
        factor = (
            scale_of(transform.fixed if inverse else transform.moving, image, path)
            if scale is None
            else scale
        )
        target = name if name.suffix else name.with_name(_name_for(path, image))
        refuse_existing(target, overwrite or target == name)
        try:
            aligned = warp_image(transform, image, inverse=inverse, scale=factor, style=style)
        except RegisterError as error:
            raise FileError(path, str(error)) from None
        if target.suffix.lower() == ".png" and (
            aligned.dtype not in (np.bool_, np.uint8, np.uint16) or aligned.channels > 4
        ):
            raise FileError(
                target, f"PNG cannot hold {aligned.channels} channels of {aligned.dtype}", "name a .tif"
            )
        write_aligned(target, aligned, style, tick=lambda share: tick((len(done) + share) / len(images)))
        done.append(Moved(str(path), str(target), aligned.size[1], aligned.size[0], factor))
    return done


def warp_image(
    transform: Transform, image: Image, *, inverse: bool, scale: float, style: OutputStyle
) -> Image:
    """An image at ``scale`` times the registered resolution, on the other image's grid at that scale, which gives it its pixel size; not computed yet."""
    scaled = transform if scale == 1 else transform.at_scale(scale)
    source = scaled.fixed if inverse else scaled.moving
    height, width = image.size
    if (source.width, source.height) != (
        width,
        height,
    ):  # a row more or less than the scale gives: the image is what it is
        frame = replace(source, width=width, height=height)
        scaled = replace(scaled, fixed=frame) if inverse else replace(scaled, moving=frame)
    way: Transform | Inverse = scaled.inverse() if inverse else scaled
    return aligned_image(image, None, way, style)


def scale_of(frame: Frame, image: Image, path: Path) -> float:
    """How many times finer an image's pixels are than those of the frame, from pixel sizes or from the ratio of sizes.

    Raises ``FileError`` when the two sides disagree: it is another image, or a part of it.
    """
    height, width = image.size
    if (width, height) == (frame.width, frame.height):
        return 1.0
    for factor in range(
        2, 129
    ):  # levels of a pyramid: halves and quarters, whose last row may be cut or filled up
        for ratio in (1 / factor, float(factor)):
            if all(
                n in (math.floor(side * ratio), math.ceil(side * ratio))
                for n, side in ((width, frame.width), (height, frame.height))
            ):
                return ratio
    if frame.pixel_size and image.pixel_size and frame.pixel_unit == image.pixel_unit:
        ratio = frame.pixel_size[0] / image.pixel_size[0]
        if abs(width - frame.width * ratio) <= 1.5 and abs(height - frame.height * ratio) <= 1.5:
            return ratio
    across, down = width / frame.width, height / frame.height
    if abs(across - down) > OUTSIDE * max(across, down):
        raise FileError(
            path,
            f"is {width} × {height} pixels; the transform is for {frame.width} × {frame.height} and the same at other resolutions",
            "use --scale if it is the same image",
        )
    return math.sqrt(across * down)


@dataclass(frozen=True)
class MappedPoints:
    """How many points were mapped, how many lie on the image they came to, and the largest round-trip error in pixels (inverse only)."""

    count: int
    inside: int
    round_trip: float | None


def map_points(
    transform: Transform,
    source: Path,
    output: Path,
    *,
    inverse: bool = False,
    origin: str | None = None,
    overwrite: bool = False,
) -> MappedPoints:
    """Map the points of a CSV, GeoJSON or ImageJ file and write the same kind, with two columns or properties more.

    ``inside`` says whether a point lands on the image; ``expected_error``, in its pixels, how far off it may be there: two of three are nearer. It is
    ``inf`` (null in GeoJSON) where nothing is known.
    ``origin`` is ``corner`` or ``center``: where (0, 0) lies in pixel (0, 0). Raises ``FileError``.
    """
    refuse_existing(output, overwrite)
    file = read_point_file(source)
    shift = 0.5 if (file.corner if origin is None else origin == "corner") else 0.0
    points = file.points - shift
    way: Transform | Inverse = transform.inverse() if inverse else transform
    mapped = way.map(points)
    round_trip = (
        float((transform.map(mapped) - points).norm(dim=1).max()) if inverse and len(points) else None
    )
    inside = interpolation.inside(mapped, way.moving.height, way.moving.width)
    error = Link(transform, inverse).expected_error(points)
    file.write(output, mapped + shift, {"inside": inside.tolist(), "expected_error": error.tolist()})
    return MappedPoints(len(points), int(inside.sum()), round_trip)


def landmarks(
    transform: Transform, fixed: Path, moving: Path, table: Path | None = None, *, seed: int = 0
) -> dict[str, Any]:
    """The landmark errors of a transform, with BIRL's names beside ours; ``table`` gets a row per landmark."""
    points = read_points(fixed), read_points(moving)
    try:
        found = landmark_errors(transform, *points)
    except RegisterError as error:
        raise FileError(moving, str(error)) from None
    summary = found.summary(seed)
    if table is not None:
        numbers = torch.cat([*points, found.mapped, found.before[:, None], found.after[:, None]], 1).tolist()
        lines = [",X,Y,moving X,moving Y,mapped X,mapped Y,IRE,TRE,rTRE"]
        lines += [
            f"{n}," + ",".join(f"{v:.6f}" for v in row) + f",{row[-1] / found.diagonal:.9f}"
            for n, row in enumerate(numbers, 1)
        ]
        write_text(table, "\n".join(lines) + "\n")
    return summary | {"birl": _birl_names(summary)}


def describe(path: Path) -> dict[str, Any]:
    """What a file is: an image or a transform. Raises ``FileError``."""
    if path.suffix.lower() == ".json":
        return {"path": str(path), "kind": "transform"} | describe_transform(Transform.load(path))
    try:
        image = open_image(path)
    except FileError as error:  # a stack, say: it cannot be aligned, and it can be described
        found = tiff.describe_if_tiff(path)
        if found is None:
            raise
        return {"path": str(path), "kind": "image", **found, "notes": [str(error)]}
    size = list(image.pixel_size) if image.pixel_size else None
    more: dict[str, Any] = {"axes": "YX" if image.channels == 1 else "YXS", "series": [], "crs": None}
    return {
        "path": str(path), "kind": "image", "container": image.kind, "width": image.size[1], "height": image.size[0], "dtype": str(image.dtype),
        "channels": image.channels, "colour": image.colour, "alpha": image.alpha, "channel_names": list(image.channel_names),
        "pixel_size": size, "pixel_unit": image.pixel_unit, "nodata": image.nodata, "levels": 1 + len(image.smaller), "notes": list(image.notes),
    } | (tiff.describe(path) if image.kind in ("tiff", "ome") and path.is_file() else more)  # fmt: skip


def describe_transform(transform: Transform) -> dict[str, Any]:
    """Direction in words, model, the parts of the global map, displacement, Jacobian, quality and provenance."""
    parts = affine.decompose(transform.matrix)
    x, y = (
        torch.linspace(0, side - 1, 65, dtype=torch.float64)
        for side in (transform.fixed.width, transform.fixed.height)
    )
    points = torch.cartesian_prod(x, y)
    mapped, jacobian = transform.expand(points)
    moved, determinant = (mapped - points).norm(dim=1), torch.linalg.det(jacobian)
    return {
        "direction": "maps a fixed point (x, y) to the moving point that shows the same thing; pixels, 0-based, centres at integers",
        "model": transform.model,
        "links": [{"model": link.transform.model, "inverse": link.inverse} for link in transform.chain],
        "fixed": [transform.fixed.width, transform.fixed.height], "moving": [transform.moving.width, transform.moving.height],
        "patches": None if transform.grid is None else [transform.grid.columns, transform.grid.rows],
        "rotation_degrees": parts.rotation, "scale": parts.scale, "anisotropy": parts.anisotropy, "flipped": bool(affine.determinant(transform.matrix) < 0),
        "translation": transform.matrix[:, 2].tolist(),
        "displacement_median": float(moved.median()), "displacement_max": float(moved.max()),
        "det_min": float(determinant.min()), "det_max": float(determinant.max()),
        "quality": transform.quality, "provenance": transform.provenance,
    }  # fmt: skip


def invert(source: Path, output: Path, *, tolerance: float, overwrite: bool = False) -> Transform:
    """Write the transform of the other direction. Raises ``FileError`` when its round trip misses the tolerance (pixels)."""
    return _write(algebra.invert(Transform.load(source)), output, tolerance, overwrite)


def compose(
    first: Path, second: Path, output: Path, *, tolerance: float, overwrite: bool = False
) -> Transform:
    """Write one transform for A to B and B to C. Raises ``FileError`` when they do not meet or the round trip misses the tolerance."""
    try:
        return _write(
            algebra.compose(Transform.load(first), Transform.load(second)), output, tolerance, overwrite
        )
    except RegisterError as error:
        raise error if isinstance(error, FileError) else FileError(second, str(error)) from None


def _write(made: Transform, output: Path, tolerance: float, overwrite: bool) -> Transform:
    refuse_existing(output, overwrite)
    if made.quality["round_trip_max"] > tolerance:
        raise FileError(
            output,
            f"not written: the round trip misses by {made.quality['round_trip_max']:.3g} px, --tolerance is {tolerance:g}",
        )
    made.save(output)
    return made


def _birl_names(summary: dict[str, Any]) -> dict[str, float]:
    """The figures under the column names of the BIRL framework (Borovec et al. 2018)."""
    names = {"Median": "median", "Mean": "mean", "Max": "max"}
    values = {"TRE robustness": summary["robustness"]}
    for when, short in (("before", "IRE"), ("after", "TRE")):
        values |= {f"{short} {name}": summary[when]["tre"][key] for name, key in names.items()}
        values |= {f"r{short} {name}": summary[when]["rtre"][key] for name, key in names.items()}
    return values


def _outputs(images: list[Path], output: Path) -> list[Path]:
    """A name per image: the output itself for one image when it ends like one, otherwise the image's own name in a folder, its end still open."""
    if len(images) == 1 and output.suffix.lower() in IMAGE_SUFFIXES:
        return [output]
    stems = [path.name.split(".")[0] for path in images]
    twice = next((stem for stem in stems if stems.count(stem) > 1), None)
    if twice is not None:
        raise RegisterError(
            f"two images are called {twice}: their results would overwrite each other; name one output per call"
        )
    return [output / stem for stem in stems]


def _name_for(path: Path, image: Image) -> str:
    """The image's own stem with the suffix its result is written in."""
    return path.name.split(".")[0] + aligned_name(image).removeprefix("aligned")
