"""A table from names to records, each loaded when it is first used, that other packages can add to."""

import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from register.errors import RegisterError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Record = TypeVar("Record")


class Entry(NamedTuple):
    """Where a record is found, as ``module:attribute``, and what it is, in a few words."""

    target: str
    summary: str


class Registry:
    """The records of one kind, by name.

    A record is a value such as a similarity or an export format. Built-in records are listed by their place
    in the code, so that names and summaries (the choices of an option, a table in the docs) cost no import.
    Other packages add records by entry points of ``group``; a program adds one with ``add``.
    """

    def __init__(self, kind: str, group: str | None, built_in: Mapping[str, Entry]) -> None:
        self.kind, self.group = kind, group
        self._built_in = dict(built_in)
        self._added: dict[str, object] = {}

    def names(self) -> tuple[str, ...]:
        """All names: the built-in ones first, then those that were added."""
        return (*self._built_in, *self.added())

    def added(self) -> tuple[str, ...]:
        """The names that are not built in: those that the program added, then those of other packages."""
        return tuple(dict.fromkeys([*self._added, *self._entry_points()]))

    def summary(self, name: str) -> str:
        """What a record is, in a few words; of an added one, where it comes from."""
        if name in self._built_in:
            return self._built_in[name].summary
        package = self.package(name)
        return f"added by the package {package}" if package else "added by this program"

    def package(self, name: str) -> str | None:
        """The package that added a record by an entry point; None for a record of this program."""
        point = None if name in self._added else self._entry_points().get(name)
        if point is None:
            return None
        return point.dist.name if point.dist is not None else point.value

    def get(self, name: str) -> Any:
        """The record of a name, loaded when it is first asked for.

        Raises ``RegisterError`` for a name that is not known, which lists the known ones, and for a record of
        another package that cannot be imported.
        """
        if name in self._built_in:
            return _load(self._built_in[name].target)
        if name in self._added:
            return self._added[name]
        points = self._entry_points()
        if name not in points:
            known = ", ".join(self.names())
            raise RegisterError(f"no {self.kind} is called {name!r}; choose one of {known}")
        point = points[name]
        try:
            return point.load()
        except Exception as error:  # whatever another package's module does when it is imported
            raise RegisterError(
                f"the {self.kind} {name!r} of the package {self.package(name)} cannot be loaded"
                f" ({type(error).__name__}: {error}); update or uninstall that package"
            ) from error

    def typed(self, name: str, kind: type[Record]) -> Record:
        """The record of a name; raises ``RegisterError`` as ``get`` does, and for another type of record."""
        record = self.get(name)
        if not isinstance(record, kind):
            wanted = f"{kind.__module__}.{kind.__qualname__}"
            raise RegisterError(
                f"the {self.kind} {name!r} is a {type(record).__name__}; it must be a {wanted}"
            )
        return record

    def add(self, name: str, record: object) -> None:
        """Add a record for as long as the program runs. Raises ``RegisterError`` for a name that is taken."""
        if name in self.names():
            raise RegisterError(f"there is a {self.kind} called {name!r} already")
        self._added[name] = record

    def remove(self, name: str) -> None:
        """Remove a record that was added with ``add``."""
        del self._added[name]

    def _entry_points(self) -> "dict[str, EntryPoint]":
        """Entry points of the group, by name; a built-in name cannot be replaced."""
        found = _entry_points(self.group, tuple(sys.path)) if self.group else ()
        return {point.name: point for point in found if point.name not in self._built_in}


@cache
def _entry_points(group: str, path: tuple[str, ...]) -> "tuple[EntryPoint, ...]":
    """The entry points of a group among the packages on a path, which takes a while to look through."""
    from importlib import metadata

    return tuple(metadata.entry_points(group=group))


def _load(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)
