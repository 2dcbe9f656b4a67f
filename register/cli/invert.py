"""``register invert TRANSFORM -o OUT``."""

from register.cli.arguments import AsJson, Debug, Output, Overwrite, Tolerance, TransformPath
from register.cli.output import print_made


def invert(
    transform: TransformPath,
    output: Output,
    tolerance: Tolerance = 0.05,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write the inverse of a transform."""
    from register.workflows import combine

    made = combine.invert(transform, output, tolerance=tolerance, overwrite=overwrite)
    print_made(made, output, as_json)
