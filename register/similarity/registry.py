"""Similarities by name: the built-in ones, those of other packages, and those that a program adds."""

from register.errors import RegisterError
from register.registries import SIMILARITIES
from register.similarity.base import Similarity


def get(name: str) -> Similarity:
    """The similarity of that name. Raises ``RegisterError`` for an unknown name and for a record of another
    type."""
    found = SIMILARITIES.get(name)
    if not isinstance(found, Similarity):
        kind = type(found).__name__
        raise RegisterError(
            f"the similarity {name!r} is a {kind}; it must be a register.similarity.base.Similarity"
        )
    return found
