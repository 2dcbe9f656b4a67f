"""The mutation score: the share of small faults in the source that the tests which concern it notice.

    python -m benchmarks.mutants [--packages geometry transforms …] [--sample 60] [--seed 0] [--named]

A mutant is a module with one operator, comparison, constant or condition changed. A random sample of each
package is tested, each mutant in a process of its own (forked after the tests are loaded) with those tests of
its package that execute the changed statement, until the first failure. What runs on import is changed in a
process that imports it then. A mutant that no test notices is printed with its line: a test is missing, or
the change has no effect. ``--named`` tests the faults of ``NAMED``, which were missed once.

Some changes have no effect on results by their kind, and are not made (``_without_effect``):

- decorators and annotations;
- ``strict=True`` of ``zip``, which checks what the program relies on, ``repr`` of a field, and the ``indent``
  of a JSON text;
- a limit above 100: a number with a name of the module that is compared for order there, or given to ``min``
  or ``max``. One more changes it by less than a hundredth;
- where a text in the message of an error is cut off, and the digits to which a number in it is rounded;
- conditions on the version of Python, the system, and ``TYPE_CHECKING``.

Everything else counts, ``<`` for ``<=`` between numbers with a fraction too, which seldom has an effect.
"""

import argparse
import ast
import copy
import importlib.abc
import importlib.util
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType

from benchmarks.mutant_tests import LONGEST, OPTIONS, Change, change_of, lines_of, run

ROOT = Path(__file__).parent.parent
TESTS = {
    "geometry": "affine geometry_details models matches patches geometry_properties splines grids",
    "transforms": "transform transform_details half_pixels resample patches geometry_properties reuse split "
    "movie_engine results group_in_memory merge sides",
    "io/points": "point_files point_details spatial_points half_pixels reuse hostile streamed_points",
    "io/transforms": "export other_programs hostile reuse geometry_properties spatialdata_export "
    "added_formats half_pixels sides spatial_points",
    "io/images": "formats image_details slide_details images half_pixels kept_metadata ome_zarr instruments "
    "masks truncated accidents microscopes zarr_places pyramid_pages lookup_tables given_values sharded "
    "added_formats raster_limits mask_limits tiff_limits tiff_page_limits "
    "instrument_limits slide_limits window_limits zarr_limits",
    "images/interpolation": "interpolation resample map_coordinates",
}
"""The packages and modules whose score is counted, and the test files that concern each."""
NAMED = {
    "polygon masks begin half a pixel late": (
        "io/images/masks.py", "np.ceil(y - 0.5)", "np.ceil(y)", "half_pixels"),
    "OME-Zarr pixel sizes with x and y swapped": (
        "io/images/ome_zarr.py", 'scale[axes.index("X")], scale[axes.index("Y")]',
        'scale[axes.index("Y")], scale[axes.index("X")]', "half_pixels"),
    "GeoJSON counted from the centre of a pixel": (
        "io/points/open.py", "file.points - 0.5 if", "file.points if", "half_pixels"),
    "any ratio of sides is the same image": (
        "workflows/apply.py", "SIDES_AGREE * max(", "10 * SIDES_AGREE * max(", "half_pixels"),
    "temporary files of running processes are removed": (
        "files/owner.py", " and not _is_running(int(number))", "", "unlucky"),
    "files get their name before they are on the disk": (
        "files/atomic.py", "os.fsync(file.fileno())", "file.fileno()", "half_pixels"),
    "a union half a pixel inside": (
        "transforms/canvas.py", "np.linspace(-0.5, side - 0.5,", "np.linspace(0, side - 1,", "half_pixels"),
}  # fmt: skip
"""Faults that no test noticed before 0.3: file, text, replacement, and the tests that must notice."""
SWAPS: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.And: ast.Or, ast.Or: ast.And, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.USub: ast.UAdd, ast.Mod: ast.Mult, ast.Pow: ast.Mult,
}  # fmt: skip
FLAGS = ("zip", "strict", True), ("field", "repr", False), ("json.dumps", "indent", 1)
"""Functions with a keyword whose value has no effect on a result: see the top of the file."""
SURROUNDINGS = ("TYPE_CHECKING", "sys.version_info", "sys.platform", "os.name")
ORDERS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)


@dataclass(frozen=True)
class Mutant:
    """A module, its changed code, what was changed, its file, and the changed function (None: on import)."""

    module: str
    code: CodeType
    what: str
    file: Path
    change: Change | None


def module_of(path: Path) -> str:
    """The dotted name of a file of the package."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def places(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The places of a module that can be changed: the number of the node in the walk, and how."""
    left_out = {id(x) for node in ast.walk(tree) for x in _annotations(node)}
    left_out |= {id(x) for x in _without_effect(tree)}
    for number, node in enumerate(ast.walk(tree)):
        if id(node) in left_out:
            continue
        if isinstance(node, (ast.BinOp, ast.BoolOp, ast.UnaryOp, ast.AugAssign)) and type(node.op) in SWAPS:
            yield number, "operator"
        elif isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
            yield number, "comparison"
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float, bool):
            yield number, "constant"
        elif isinstance(node, (ast.If, ast.IfExp)):
            yield number, "condition"


def _annotations(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes of the annotations of a node, and of decorators, which are no computation."""
    found = [getattr(node, "annotation", None), getattr(node, "returns", None)]
    found += getattr(node, "decorator_list", [])
    for one in filter(None, found):
        yield from ast.walk(one)


def _without_effect(tree: ast.Module) -> Iterator[ast.AST]:
    """The nodes of a module whose change can have no effect: the rules are at the top of the file."""
    limits = set(_limits(tree))
    yield from (value for name, value in _named_numbers(tree) if name in limits and value.value > 100)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from (one.value for one in node.keywords if _is_flag(node, one))
        elif isinstance(node, ast.Raise):
            yield from _cuts(node)
        elif isinstance(node, (ast.If, ast.IfExp)) and any(x in ast.unparse(node.test) for x in SURROUNDINGS):
            yield from [node, *ast.walk(node.test)]


def _is_flag(call: ast.Call, keyword: ast.keyword) -> bool:
    value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
    return (ast.unparse(call.func), keyword.arg, value) in FLAGS


def _limits(tree: ast.Module) -> Iterator[str]:
    """Names that a module compares for order, or gives to ``min`` or ``max``."""
    for node in ast.walk(tree):
        found: list[ast.expr] = []
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ORDERS):
            found = [node.left, *node.comparators]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("min", "max"):
            found = node.args
        yield from (one.id for one in found if isinstance(one, ast.Name))


def _named_numbers(tree: ast.Module) -> Iterator[tuple[str, ast.Constant]]:
    """The numbers that have a name in a module, alone or several in one line."""
    for node in tree.body:
        if isinstance(node, ast.Assign):
            ends = (node.targets[0], node.value)
            names, values = (one.elts if isinstance(one, ast.Tuple) else [one] for one in ends)
            for name, value in zip(names, values, strict=False):
                if isinstance(value, ast.Constant) and type(value.value) in (int, float):
                    yield ast.unparse(name), value


def _cuts(message: ast.AST) -> Iterator[ast.AST]:
    """Where texts in a message are cut off, and digits to which numbers in it are rounded."""
    for node in ast.walk(message):
        if isinstance(node, ast.Slice):
            yield from ast.walk(node)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "round":
            yield from (x for one in node.args[1:] for x in ast.walk(one))


def changed(tree: ast.Module, number: int, how: str) -> tuple[ast.Module, str]:
    """The module with one place changed, and what was changed in words."""
    made = copy.deepcopy(tree)
    node = list(ast.walk(made))[number]
    before = ast.unparse(node.test if how == "condition" else node).split("\n")[0]
    if how == "operator":
        node.op = SWAPS[type(node.op)]()
    elif how == "comparison":
        node.ops[0] = SWAPS[type(node.ops[0])]()
    elif how == "constant":
        node.value = not node.value if isinstance(node.value, bool) else node.value + 1
    else:
        node.test = ast.copy_location(ast.UnaryOp(ast.Not(), node.test), node.test)
    after = ast.unparse(node.test if how == "condition" else node).split("\n")[0]
    return ast.fix_missing_locations(made), f"line {node.lineno}: {before[:60]} -> {after[:60]}"


def sample(package: str, count: int, seed: int) -> list[Mutant]:
    """A random sample of the mutants of a package, or of one module."""
    target = ROOT / "register" / package
    files = sorted(target.rglob("*.py")) if target.is_dir() else [target.with_suffix(".py")]
    trees = {file: ast.parse(file.read_text(encoding="utf-8")) for file in files}
    every = [(file, number, how) for file, tree in trees.items() for number, how in places(tree)]
    chosen = random.Random(f"{package} {seed}").sample(every, min(count, len(every)))
    mutants = []
    for file, number, how in chosen:
        tree, what = changed(trees[file], number, how)
        code = compile(tree, str(file), "exec")
        lines = lines_of(trees[file], list(ast.walk(trees[file]))[number])
        change = lines and change_of(file, compile(trees[file], str(file), "exec"), code, lines)
        mutants.append(
            Mutant(module_of(file), code, f"{file.relative_to(ROOT)} {what}", file, change or None)
        )
    return mutants


def named() -> dict[str, tuple[list[Mutant], str]]:
    """The named faults by their names, each with its tests."""
    found = {}
    for name, (file, text, replacement, tests) in NAMED.items():
        path = ROOT / "register" / file
        source = path.read_text(encoding="utf-8")
        if text not in source:
            raise SystemExit(f"{file} does not contain {text!r} any more")
        code = compile(source.replace(text, replacement), str(path), "exec")
        found[name] = [Mutant(module_of(path), code, f"{file}: {name}", path, None)], tests
    return found


class Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives a mutant in place of its module."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The mutant, for its own name."""
        if name != self.mutant.module:
            return None
        file = ROOT.joinpath(*name.split(".")).with_suffix(".py")
        return importlib.util.spec_from_file_location(name, file, loader=self)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """None: a usual module."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Run the changed code."""
        exec(self.mutant.code, module.__dict__)


def is_noticed(mutant: Mutant, chosen: list[str], seconds: float) -> bool:
    """Whether tests fail that import a mutant, in a process of their own."""
    if not chosen:
        return False
    child = os.fork()
    if not child:
        signal.alarm(int(LONGEST + 10 * seconds))
        sys.meta_path.insert(0, Changed(mutant))
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        import pytest

        os.chdir(ROOT)
        os._exit(int(pytest.main([*OPTIONS, *chosen])) and 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0


def missed(mutants: list[Mutant], tests: str) -> Iterator[Mutant]:
    """The mutants that no test notices. Raises ``SystemExit`` where tests fail without one."""
    usual, noticed = run(tests, [mutant.change for mutant in mutants if mutant.change])
    if usual.failed or not usual.seconds:
        raise SystemExit(f"these tests fail without a mutant: {usual.failed or tests}")
    answers = iter(noticed)
    for mutant in mutants:
        found = next(answers) if mutant.change else None
        if found is None:
            chosen = usual.of_lines(mutant.file, None)
            found = is_noticed(mutant, chosen, sum(usual.seconds[name] for name in chosen))
        if not found:
            yield mutant


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--packages", nargs="+", choices=TESTS, default=list(TESTS))
    parser.add_argument("--sample", type=int, default=60, help="mutants of each package")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--named", action="store_true", help="test the named faults only")
    options = parser.parse_args()
    import scipy.ndimage  # noqa: F401 loaded once for all
    import torch  # noqa: F401

    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    if options.named:
        groups = named()
    else:
        samples = {package: sample(package, options.sample, options.seed) for package in options.packages}
        groups = {package: (mutants, TESTS[package]) for package, mutants in samples.items()}
    left, total = 0, 0
    for group, (mutants, tests) in groups.items():
        begin, alive = time.perf_counter(), 0
        for mutant in missed(mutants, tests):
            alive += 1
            print(f"missed: {mutant.what}", flush=True)
        share, seconds = 100 * (1 - alive / len(mutants)), time.perf_counter() - begin
        noticed = f"{len(mutants) - alive} of {len(mutants)} noticed ({share:.0f} %)"
        print(f"{group}: {noticed}, {seconds:.0f} s", flush=True)
        left, total = left + alive, total + len(mutants)
    print(f"{total - left} of {total} noticed ({100 * (1 - left / total):.1f} %)")
    raise SystemExit(1 if options.named and left else 0)


if __name__ == "__main__":
    main()
