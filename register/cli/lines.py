"""Results of the small commands as lines of text or as one JSON object."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from register.transforms.transform import Transform


def print_values(values: Mapping[str, Any], as_json: bool) -> None:
    """Print names and values, one per line, or as one JSON object."""
    if as_json:
        print_json(values)
        return
    for name, value in values.items():
        print(f"{name.replace('_', ' '):20s} {_plain(value)}")


def print_json(values: Mapping[str, Any]) -> None:
    """Print one JSON object on one line."""
    print(json.dumps(values, ensure_ascii=False))


def _plain(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    if isinstance(value, dict):
        return "; ".join(f"{key} {_plain(v)}" for key, v in value.items() if _fits_a_line(key, v))
    return str(value)


def _fits_a_line(key: str, value: Any) -> bool:
    return not isinstance(value, (dict, list)) or key == "reasons"


def print_made(made: "Transform", output: Path, as_json: bool) -> None:
    """Print what a written transform is, and its round-trip error."""
    values = {
        "file": str(output),
        "model": made.model,
        "verdict": made.quality["verdict"],
        "round_trip_median": made.quality["round_trip_median"],
        "round_trip_max": made.quality["round_trip_max"],
    }
    print_values(values, as_json)
