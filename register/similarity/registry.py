"""Look up similarity metrics by name: built-in ones, and those added by packages or programs."""

from register.registries import SIMILARITIES
from register.similarity.base import Similarity


def get(name: str) -> Similarity:
    """The similarity of that name. Raises ``RegisterError`` for an unknown name and for a record of another
    type."""
    return SIMILARITIES.typed(name, Similarity)
