"""``register invert`` and ``register compose``: transforms made of saved transforms."""

from pathlib import Path

from register.errors import FileError, RegisterError
from register.files.atomic import refuse_existing, refuse_inputs
from register.transforms import compose as algebra
from register.transforms.transform import Transform


def invert(source: Path, output: Path, *, tolerance: float, overwrite: bool = False) -> Transform:
    """Write the inverse of a transform.

    Raises ``FileError`` when the round trip exceeds the tolerance (pixels).
    """
    refuse_inputs(output, source)
    return _write(algebra.invert(Transform.load(source)), output, tolerance, overwrite)


def compose(
    first: Path, second: Path, output: Path, *, tolerance: float, overwrite: bool = False
) -> Transform:
    """Write the transform A to C of two transforms A to B and B to C.

    Raises ``FileError`` when the sizes of B differ or the round-trip error exceeds the tolerance (pixels).
    """
    refuse_inputs(output, first, second)
    try:
        made = algebra.compose(Transform.load(first), Transform.load(second))
        return _write(made, output, tolerance, overwrite)
    except FileError:
        raise
    except RegisterError as error:
        raise FileError(second, str(error)) from None


def _write(made: Transform, output: Path, tolerance: float, overwrite: bool) -> Transform:
    refuse_existing(output, overwrite)
    error = made.quality.round_trip_max
    if error is None or error > tolerance:
        raise FileError(
            output,
            f"not written: the round-trip error is {error:.3g} px, larger than --tolerance {tolerance:g}",
        )
    made.save(output)
    return made
