"""JSON that comes from anywhere: no key twice, no number that Python cannot compute with."""

import json
import math
from typing import Any

LONGEST = 300
"""Digits of an integer that still is a number of 64-bit floats."""


def parse_json(text: str) -> Any:
    """The values of a JSON text. Raises ``ValueError`` with one line that says what is wrong."""
    try:
        return json.loads(text, object_pairs_hook=_without_repeats, parse_int=_integer)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def number(value: object, name: str) -> float:
    """A finite number. Raises ``ValueError`` for anything else: a boolean, or a text of digits."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} is {str(value)[:40]!r}, not a finite number")
    return float(value)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {repeated[:40]!r} is there twice")
    return made


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= LONGEST else math.inf
