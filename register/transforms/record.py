"""Records of JSON files with typed fields, which also act as mappings and are written as they were read."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Self, get_type_hints

ABSENT: Any = object()
"""The default of every field: its key is not in the file, and its value is the empty value of its kind."""


@dataclass(frozen=True)
class Kind:
    """The type of a field.

    ``read`` checks and converts a JSON value; it raises ``ValueError`` for one of a wrong type. ``empty``
    is the value of a field whose key is not in the file.
    """

    read: Callable[[Any], Any]
    empty: Any = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Record(Mapping[str, Any]):
    """Typed values of one JSON object.

    As a mapping it has the keys that were given, in the order of the file (or of the fields, for a record
    made by the program), and plain JSON values; so ``dict(record)`` is the object in the file. ``others``
    holds keys that are not known, and values of known keys that have a wrong type; the fields of the latter
    are empty.
    """

    others: Mapping[str, Any] = field(default_factory=dict)
    order: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Determine which keys are given, and set the other fields to their empty value."""
        made, given = self.order is None, list(self.order or ())
        names = list(_kinds(type(self)))
        for name, kind in _kinds(type(self)).items():
            value = getattr(self, name)
            if value is ABSENT:
                object.__setattr__(self, name, kind.empty)
            elif name not in given and (made or value != kind.empty):
                given.insert(_place(name, given, names), name)
        given += [key for key in self.others if key not in given]
        object.__setattr__(self, "order", tuple(given))

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """The record of a JSON object; unknown keys and values of wrong types are kept in ``others``."""
        known, others = {}, {}
        kinds = _kinds(cls)
        for key, value in values.items():
            try:
                known[key] = kinds[key].read(value)
            except (KeyError, ValueError):
                others[key] = value
        return cls(**known, others=others, order=tuple(values))

    def __getitem__(self, key: str) -> Any:
        """The JSON value of a key; raises ``KeyError`` for a key that is not given."""
        if key in self.others:
            return self.others[key]
        if key not in (self.order or ()):
            raise KeyError(key)
        return plain(getattr(self, key))

    def __iter__(self) -> Iterator[str]:
        """The keys that are given."""
        return iter(self.order or ())

    def __len__(self) -> int:
        """The number of keys that are given."""
        return len(self.order or ())


def plain(value: Any) -> Any:
    """A value in JSON types: records as dictionaries, tuples as lists."""
    if isinstance(value, Record):
        return dict(value)
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def _checked(value: Any, good: bool) -> Any:
    if not good:
        raise ValueError("has a wrong type")
    return value


def _number(value: Any) -> Any:
    return _checked(value, isinstance(value, int | float | None) and not isinstance(value, bool))


def _list(value: Any) -> Any:
    return _checked(value, isinstance(value, list | tuple))


def _numbers(value: Any) -> Any:
    return tuple(map(_number, _list(value)))


def _texts(value: Any) -> Any:
    return tuple(_checked(item, isinstance(item, str)) for item in _list(value))


def _rows(value: Any) -> Any:
    return None if value is None else tuple(map(_numbers, _list(value)))


def one(kind: Callable[[], type[Record]]) -> Kind:
    """A field that holds a record of a kind, or None."""

    def read(value: Any) -> Any:
        return None if value is None else kind().of(_checked(value, isinstance(value, Mapping)))

    return Kind(read)


def many(kind: Callable[[], type[Record]]) -> Kind:
    """A field that holds a list of records of a kind."""
    return Kind(lambda value: tuple(map(one(kind).read, _list(value))), ())


Number = Annotated[float | None, Kind(_number)]
Count = Annotated[int | None, Kind(_number)]
Flag = Annotated[bool | None, Kind(lambda value: _checked(value, isinstance(value, bool | None)))]
Text = Annotated[str | None, Kind(lambda value: _checked(value, isinstance(value, str | None)))]
Texts = Annotated[tuple[str, ...], Kind(_texts, ())]
Numbers = Annotated[tuple[float, ...], Kind(_numbers, ())]
NumbersOrNone = Annotated[tuple[float | None, ...], Kind(_numbers, ())]
Rows = Annotated[tuple[tuple[float, ...], ...] | None, Kind(_rows)]
TABLE = Kind(lambda value: _checked(value, isinstance(value, Mapping)), {})
"""The type of a field that holds an object with any content."""


@cache
def _kinds(record: type[Record]) -> dict[str, Kind]:
    """The kinds of the fields of a record, by name."""
    hints = get_type_hints(record, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items() if hasattr(hint, "__metadata__")}


def _place(name: str, given: list[str], names: list[str]) -> int:
    """The position at which a key is added: before the first given key whose field is declared later."""
    later = set(names[names.index(name) :])
    return next((n for n, key in enumerate(given) if key in later), len(given))
