"""Which tests execute a line of the package, and a process that has loaded all tests and runs some of them
with a changed function: what ``benchmarks.mutants`` works with.

Lines are recorded by coverage.py with the test as context. What runs while a test is set up counts for all
tests of its file, which share fixtures.
"""

import ast
import gc
import os
import pickle
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, TypeVar

ROOT = Path(__file__).parent.parent
PLUGINS = ("terminal", "cacheprovider", "napari", "npe2")
OPTIONS = ["-o", "addopts=", "-x", "-m", "not slow", "--rootdir", str(ROOT), *(f"-pno:{x}" for x in PLUGINS)]
SET_UP = "set up "
T = TypeVar("T")
NOT_RUN = 99
LONGEST = 30
"""A mutant counts as noticed if its tests take so many seconds more than ten times their usual ones."""


@dataclass
class Record:
    """Tests by the file and line that they execute, their seconds, and those that fail."""

    tests: dict[tuple[str, int], set[str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def of_lines(self, file: Path, lines: range | None) -> list[str]:
        """The tests that execute any of some lines, or any line of the file for None; quick ones first."""
        places = [place for place in self.tests if place[0] == str(file) and (not lines or place[1] in lines)]
        found = set().union(*(self.tests[place] for place in places))
        shared = {one.removeprefix(SET_UP) for one in found if one.startswith(SET_UP)}
        found |= {test for test in self.seconds if test.split("::")[0] in shared}
        return sorted(found & set(self.seconds), key=self.seconds.__getitem__)


@dataclass(frozen=True)
class Change:
    """The code of a function before and after a change, with the lines of the changed statement."""

    file: Path
    lines: range
    before: CodeType
    after: CodeType

    def apply(self) -> None:
        """Change the loaded function, whatever decorates it."""
        loaded = [one for one in gc.get_objects() if type(one) is FunctionType]  # isinstance wakes proxies
        named = [one for one in loaded if one.__code__.co_filename == str(self.file)]
        for one in named:
            if one.__code__ == self.before:
                one.__code__ = self.after
        if not any(one.__code__ == self.after for one in named):
            raise LookupError(f"{self.file}: {self.before.co_qualname} is not loaded")


class Runner:
    """A plugin of pytest: records what the collected tests execute, and runs them with each change in turn.

    All of it happens in forked processes, so that this process stays as it is after the tests are loaded.
    """

    def __init__(self, changes: Sequence[Change]) -> None:
        self.changes, self.record, self.noticed = changes, Record(), list[bool | None]()

    def pytest_runtestloop(self, session: Any) -> bool:
        """In the place of the usual run."""
        self.record = in_fork(lambda: recorded(session.items))
        items = {item.nodeid: item for item in session.items}
        for change in self.changes if not self.record.failed else ():
            chosen = self.record.of_lines(change.file, change.lines)
            seconds = sum(self.record.seconds[name] for name in chosen)
            self.noticed.append(bool(chosen) and fails(change, [items[name] for name in chosen], seconds))
        return True


def run(tests: str, changes: Sequence[Change]) -> tuple[Record, list[bool | None]]:
    """Run test files, given by their short names, without a change and with each, in a process of their own:
    what they execute, and whether each change was noticed; None for a function that is not loaded."""
    return in_fork(lambda: _run(tests, changes))


def _run(tests: str, changes: Sequence[Change]) -> tuple[Record, list[bool | None]]:
    import pytest

    os.chdir(ROOT)
    runner = Runner(changes)
    pytest.main([*OPTIONS, *files_of(tests)], plugins=[runner])
    return runner.record, runner.noticed


def in_fork(function: Callable[[], T]) -> T:
    """The value of a function that is called in a process of its own."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            content = pickle.dumps(function())
            with os.fdopen(write, "wb") as out:
                out.write(content)
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as source:
        content = source.read()
    os.waitpid(child, 0)
    value: T = pickle.loads(content)
    return value


def files_of(tests: str) -> list[str]:
    """Paths of test files from their short names."""
    return [f"tests/test_{name}.py" for name in tests.split()]


class Reports:
    """Seconds of a test, and whether it failed, from the reports of its phases."""

    def __init__(self) -> None:
        self.seconds, self.failed = 0.0, False

    def pytest_runtest_logreport(self, report: Any) -> None:
        """After each phase."""
        self.seconds, self.failed = self.seconds + report.duration, self.failed or report.failed


def outcomes(items: Sequence[Any]) -> Iterator[tuple[Any, Reports]]:
    """Run tests: each with its outcome."""
    for item, following in zip(items, [*items[1:], None], strict=True):
        reports = Reports()
        item.config.pluginmanager.register(reports)
        item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
        item.config.pluginmanager.unregister(reports)
        yield item, reports


def recorded(items: Sequence[Any]) -> Record:
    """What tests execute."""
    import coverage

    class Contexts:
        """Names the running test to coverage.py."""

        def pytest_runtest_setup(self, item: Any) -> None:
            """Fixtures are shared by a file."""
            measured.switch_context(SET_UP + item.nodeid.split("::")[0])

        def pytest_runtest_call(self, item: Any) -> None:
            """The test itself."""
            measured.switch_context(item.nodeid)

    measured, found = coverage.Coverage(data_file=None, config_file=False), Record()
    measured.set_option("run:include", [f"{ROOT}/register/*"])
    items[0].config.pluginmanager.register(Contexts())
    measured.start()
    for item, reports in outcomes(items):
        found.seconds[item.nodeid] = reports.seconds
        found.failed += [item.nodeid] * reports.failed
    measured.stop()
    data = measured.get_data()
    for file in data.measured_files():
        for line, contexts in data.contexts_by_lineno(file).items():
            found.tests[file, line] = set(contexts) - {""}
    return found


def fails(change: Change, items: Sequence[Any], seconds: float) -> bool | None:
    """Whether any test fails with a change, or does not end, in a process of its own.

    None where the function is not loaded before a test imports its module.
    """
    child = os.fork()
    if not child:
        signal.alarm(int(LONGEST + 10 * seconds))
        code = NOT_RUN
        try:
            change.apply()
            code = int(any(reports.failed for _, reports in outcomes(items)))
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return None if code == NOT_RUN else code != 0


def lines_of(tree: ast.Module, node: ast.AST) -> range | None:
    """The lines of the statement that holds a node; None where it runs when the module is imported."""
    inside = [one for one in ast.walk(tree) if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef))]
    if not any(node in _nodes(function.body) for function in inside):
        return None
    holding = [one for one in ast.walk(tree) if isinstance(one, ast.stmt) and node in _nodes([one])]
    statement = max(holding, key=lambda one: one.lineno)
    body = getattr(statement, "body", None)
    end = max(statement.lineno, body[0].lineno - 1) if body else statement.end_lineno or statement.lineno
    return range(statement.lineno, end + 1)


def _nodes(statements: Iterable[ast.stmt]) -> set[ast.AST]:
    return {node for statement in statements for node in ast.walk(statement)}


def function_codes(code: CodeType) -> dict[tuple[str, int], CodeType]:
    """The functions and methods of a module that are in no other function, by their name and line."""
    found = dict[tuple[str, int], CodeType]()
    for one in code.co_consts:
        if isinstance(one, CodeType):
            is_class = not one.co_flags & 2  # no local variables in slots: a class body
            found |= function_codes(one) if is_class else {(one.co_qualname, one.co_firstlineno): one}
    return found


def change_of(file: Path, source: CodeType, changed: CodeType, lines: range) -> Change | None:
    """The function that differs between the code of two versions of a module."""
    before, after = function_codes(source), function_codes(changed)
    for key in before.keys() & after.keys():
        if before[key] != after[key]:
            return Change(file, lines, before[key], after[key])
    return None
