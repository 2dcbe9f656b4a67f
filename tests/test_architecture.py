"""The walls of the house, as docs/architecture.md draws them."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "register"
FLOORS = {
    -1: ["errors"],
    0: ["settings", "filters", "replay"],
    1: ["pixels", "affine", "sampling", "similarity", "optimise", "memory", "device"],
    2: ["pyramid", "patches", "consensus"],
    2.5: ["native"],
    3: ["stencil", "structure", "grey", "field"],
    4: ["search", "features", "comparison", "transform"],
    5: ["objective", "combine", "evaluate", "bspline"],
    6: ["descent"],
    6.5: ["regrow"],
    7: ["globalfit", "localfit"],
    8: ["evidence", "expected", "verdict", "resample"],
    9: ["quality", "starts", "io", "report"],
    10: ["pipeline"],
    10.5: ["motion"],
    11: ["api", "aligned"],
    12: ["jobs", "reuse", "doctor"],
    13: ["reports", "pairs"],
    14: ["batch"],
    15: ["workers", "cluster"],
    15.5: ["frames"],
    15.7: ["series"],
    16: ["cli"],
    17: ["__main__"],
}
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
DOORS = {
    "cv2": ("features", "filters"),
    "tifffile": "io",
    "imagecodecs": ("io", "report", "doctor"),
    "PIL": ("io", "report"),
    "typer": "cli",
    "rich": "cli",
    "jinja2": "report",
    "triton": "native",
}
FILES = sorted(PACKAGE.rglob("*.py"))


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path, top_only):
    """Modules imported by a file; with ``top_only`` those of the module's body, not of its functions or type checks."""
    tree = ast.parse(path.read_text())
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "register":
            yield from (f"register.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    if room(path) == "__init__":
        return
    for name in imports(path, top_only=True):
        parts = name.split(".")
        if parts[0] == "register" and len(parts) > 1 and parts[1] in FLOOR and parts[1] != room(path):
            assert FLOOR[parts[1]] < FLOOR[room(path)], f"{room(path)} must not import {name}"


def test_every_room_has_a_floor():
    assert {room(path) for path in FILES} - {"__init__"} == set(FLOOR)


@pytest.mark.parametrize(("library", "home"), DOORS.items())
def test_every_library_has_one_door(library, home):
    users = {room(path) for path in FILES if any(name.split(".")[0] == library for name in imports(path, top_only=False))}
    assert users <= {home} if isinstance(home, str) else users <= set(home)


def test_one_caller_of_grid_sample():
    assert [path.name for path in FILES if "grid_sample(" in path.read_text()] == ["sampling.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_and_functions_stay_small_and_quiet(path):
    text = path.read_text()
    assert text.count("\n") <= 400
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, node.name
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            assert room(path) == "cli"
