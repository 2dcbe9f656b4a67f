"""The commands that use a saved transform: apply, points, invert, compose, export, evaluate, info."""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from register.settings import Compression, Interpolation

CHECK_FAILED = 3
OUTPUT = typer.Option("-o", "--output", help="Where to write.", show_default=False)

TransformPath = Annotated[
    Path, typer.Argument(metavar="TRANSFORM", help="A transform.json.", show_default=False)
]
Output = Annotated[Path, OUTPUT]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a result that is already there.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout and nothing else there.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Tolerance = Annotated[float, typer.Option(help="Largest round-trip error allowed, in pixels.", min=0)]


class Format(StrEnum):
    """What ``export`` writes."""

    itk, itk_h5, elastix = "itk", "itk-h5", "elastix"
    field_tiff, field_nifti, field_mha = "field-tiff", "field-nifti", "field-mha"
    ngff, csv, npz, gcp = "ngff", "csv", "npz", "gcp"


def apply(
    transform: TransformPath,
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...",
            help="Images like the moving one: other channels, labels, other resolutions.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="A file for one image, else a folder.", show_default=False)
    ],
    inverse: Annotated[
        bool, typer.Option("--inverse", help="Bring images like the fixed one onto the moving grid.")
    ] = False,
    labels: Annotated[
        bool, typer.Option("--labels", help="Values are labels: nearest neighbour, 0 outside.")
    ] = False,
    scale: Annotated[
        float | None,
        typer.Option(help="Resolution over that of the registered images. [default: from sizes]", min=1e-3),
    ] = None,
    interpolation: Annotated[Interpolation, typer.Option(help="How pixels are read.")] = "bilinear",
    fill: Annotated[
        str, typer.Option(help="Value of pixels the image does not show: a number, or `auto`.")
    ] = "auto",
    compression: Annotated[
        Compression, typer.Option(help="How a TIFF's tiles are packed; all but jpeg keep every value.")
    ] = "deflate",
    pyramid: Annotated[
        bool | None, typer.Option(help="Whether a TIFF gets coarser levels. [default: above 4096 pixels]")
    ] = None,
    series: Annotated[
        int | None, typer.Option(help="Series of files that hold several. [default: the largest]", min=0)
    ] = None,
    level: Annotated[int, typer.Option(help="Level of a pyramid; 0 is the finest.", min=0)] = 0,
    plane: Annotated[
        str | None, typer.Option(help="Plane of a stack, as Z=3 or Z=3,T=0, counted from 0.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Warp other images with a saved transform."""
    from dataclasses import asdict

    from register import Transform
    from register.cli import show
    from register.engine.pair import Event
    from register.io.images.open import Selection
    from register.workflows import reuse
    from register.workflows.aligned_image import OutputStyle

    style = OutputStyle(interpolation, fill, compression, pyramid)
    with show.progress(as_json) as listener:
        done = reuse.apply(
            Transform.load(transform), images, output, inverse=inverse, labels=labels, scale=scale, style=style,
            part=Selection(series, level, plane), overwrite=overwrite,
            tick=lambda share: listener(Event("write", "", share, None)),
        )  # fmt: skip
    if as_json:
        print(json.dumps({"images": [asdict(moved) for moved in done]}, ensure_ascii=False))
    else:
        for moved in done:
            at = "" if moved.scale == 1 else f", {moved.scale:g} times the registered resolution"
            print(f"{moved.source} -> {moved.file} ({moved.width} × {moved.height}{at})")


def points(
    transform: TransformPath,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="POINTS", help="CSV with x and y, napari's CSV, or GeoJSON.", show_default=False
        ),
    ],
    output: Output,
    inverse: Annotated[bool, typer.Option("--inverse", help="Map moving points to the fixed image.")] = False,
    origin: Annotated[
        Literal["corner", "center"] | None,
        typer.Option(help="Where (0, 0) lies in pixel (0, 0). [default: corner for GeoJSON, center for CSV]"),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Map points from the fixed image to the moving one; the same kind of file comes out."""
    from dataclasses import asdict

    from register import Transform
    from register.workflows import reuse

    done = reuse.map_points(
        Transform.load(transform), source, output, inverse=inverse, origin=origin, overwrite=overwrite
    )
    if as_json:
        print(json.dumps(asdict(done) | {"file": str(output)}, ensure_ascii=False))
    else:
        back = "" if done.round_trip is None else f"; largest round-trip error {done.round_trip:.2g} px"
        print(f"{done.count} points, {done.inside} of them on the image{back} -> {output}")


def invert(
    transform: TransformPath,
    output: Output,
    tolerance: Tolerance = 0.05,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write the transform of the other direction."""
    from register.workflows import reuse

    _show_made(reuse.invert(transform, output, tolerance=tolerance, overwrite=overwrite), output, as_json)


def compose(
    first: Annotated[
        Path, typer.Argument(metavar="FIRST", help="The transform from A to B.", show_default=False)
    ],
    second: Annotated[
        Path, typer.Argument(metavar="SECOND", help="The transform from B to C.", show_default=False)
    ],
    output: Output,
    tolerance: Tolerance = 0.05,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write one transform for A to B and B to C."""
    from register.workflows import reuse

    _show_made(
        reuse.compose(first, second, output, tolerance=tolerance, overwrite=overwrite), output, as_json
    )


def export(
    transform: TransformPath,
    form: Annotated[Format, typer.Option("--to", help="The format to write.", show_default=False)],
    output: Output,
    spacing: Annotated[
        float | None,
        typer.Option(
            help="Distance of field samples, control points or knots, in fixed pixels. [default: by format]"
        ),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="Largest error allowed to a fitted B-spline, in pixels.", min=0)
    ] = 0.01,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write a transform in another program's format."""
    from register import Transform
    from register.files.atomic import refuse_existing
    from register.io.transforms.export import export as write

    refuse_existing(output, overwrite)
    _show(write(Transform.load(transform), form.value, output, spacing=spacing, tolerance=tolerance), as_json)


def evaluate(
    transform: TransformPath,
    fixed_points: Annotated[
        Path, typer.Argument(metavar="FIXED_POINTS", help="Landmarks of the fixed image.", show_default=False)
    ],
    moving_points: Annotated[
        Path,
        typer.Argument(
            metavar="MOVING_POINTS",
            help="The same of the moving image, in the same order.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A CSV with a row per landmark.", show_default=False)
    ] = None,
    max_median: Annotated[
        float | None, typer.Option(metavar="PX", help="End with 3 when the median TRE is larger.", min=0)
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Measure landmark errors: TRE, rTRE, robustness, before and after."""
    from register import Transform
    from register.workflows import reuse

    found = reuse.landmarks(Transform.load(transform), fixed_points, moving_points, output)
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        print(f"{found['landmarks']} landmarks, {found['robustness']:.0%} nearer than before")
        print(f"{'':8s}{'median':>10s}{'mean':>10s}{'90 %':>10s}{'max':>10s}")
        for when in ("before", "after"):
            print(
                f"{when:8s}"
                + "".join(f"{found[when]['tre'][name]:10.3f}" for name in ("median", "mean", "p90", "max"))
                + "  px TRE"
            )
            print(
                f"{'':8s}"
                + "".join(
                    f"{100 * found[when]['rtre'][name]:10.3f}" for name in ("median", "mean", "p90", "max")
                )
                + "  % of the diagonal (rTRE)"
            )
        low, high = found["interval_95"]["median"]
        print(f"95 % interval of the median after: {low:.3f} to {high:.3f} px")
    if max_median is not None and found["after"]["tre"]["median"] > max_median:
        raise typer.Exit(CHECK_FAILED)


def info(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Images or transforms.", show_default=False)
    ],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say what an image or a transform is."""
    from register import RegisterError
    from register.workflows import reuse

    found, wrong = [], []
    for path in files:
        try:
            found.append(reuse.describe(path))
        except RegisterError as error:
            wrong.append(error)
    for earlier in wrong[:-1]:
        print(f"error: {earlier}", file=sys.stderr)
    if as_json:
        print(json.dumps({"files": found}, ensure_ascii=False))
    for values in found if not as_json else ():
        for name, value in values.items():
            if value not in (None, [], {}):
                print(f"{name.replace('_', ' '):20s} {_plain(value)}")
    if wrong:
        raise wrong[-1]


def _show_made(made: Any, output: Path, as_json: bool) -> None:
    quality = made.quality
    _show(
        {
            "file": str(output), "model": made.model, "verdict": quality["verdict"],
            "round_trip_median": quality["round_trip_median"], "round_trip_max": quality["round_trip_max"],
        },
        as_json,
    )  # fmt: skip


def _show(values: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(values, ensure_ascii=False))
    else:
        for name, value in values.items():
            print(f"{name.replace('_', ' '):20s} {_plain(value)}")


def _plain(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    if isinstance(value, dict):
        return "; ".join(
            f"{key} {_plain(v)}"
            for key, v in value.items()
            if not isinstance(v, (dict, list)) or key == "reasons"
        )
    return str(value)
