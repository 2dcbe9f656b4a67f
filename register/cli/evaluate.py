"""``register evaluate TRANSFORM FIXED_POINTS MOVING_POINTS``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from register.cli.arguments import AsJson, Debug, Overwrite, TransformPath
from register.cli.output import print_json

CHECK_FAILED = 3
FIGURES = ("median", "mean", "p90", "max")

FixedPoints = Annotated[
    Path,
    typer.Argument(
        metavar="FIXED_POINTS",
        help="Landmarks of the fixed image, or the pairs of a file of BigWarp.",
        show_default=False,
    ),
]
MovingPoints = Annotated[
    Path | None,
    typer.Argument(
        metavar="[MOVING_POINTS]",
        help="The same landmarks in the moving image, in the same order.",
        show_default=False,
    ),
]
Table = Annotated[
    Path | None, typer.Option("-o", "--output", help="A CSV with a row per landmark.", show_default=False)
]
MaxMedian = Annotated[
    float | None, typer.Option(metavar="PX", help="Exit with 3 when the median TRE is larger.", min=0)
]


def evaluate(
    transform: TransformPath,
    fixed_points: FixedPoints,
    moving_points: MovingPoints = None,
    output: Table = None,
    max_median: MaxMedian = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Measure landmark errors before and after: TRE, rTRE and robustness."""
    from register.files.atomic import refuse_inputs
    from register.transforms.transform import Transform
    from register.workflows.evaluate import evaluate as workflow

    if output is not None:
        refuse_inputs(output, transform)
    found = workflow(Transform.load(transform), fixed_points, moving_points, output, overwrite=overwrite)
    if as_json:
        print_json(found)
    else:
        _print_table(found)
    if max_median is not None and found["after"]["tre"]["median"] > max_median:
        raise typer.Exit(CHECK_FAILED)


def _print_table(found: dict[str, Any]) -> None:
    print(f"{found['landmarks']} landmarks, {found['robustness']:.0%} nearer than before")
    print(f"{'':8s}{'median':>10s}{'mean':>10s}{'90 %':>10s}{'max':>10s}")
    for when in ("before", "after"):
        tre, rtre = found[when]["tre"], found[when]["rtre"]
        print(f"{when:8s}" + "".join(f"{tre[name]:10.3f}" for name in FIGURES) + "  px TRE")
        percent = "".join(f"{100 * rtre[name]:10.3f}" for name in FIGURES)
        print(f"{'':8s}{percent}  % of the diagonal (rTRE)")
    low, high = found["interval_95"]["median"]
    print(f"95 % interval of the median after: {low:.3f} to {high:.3f} px")
