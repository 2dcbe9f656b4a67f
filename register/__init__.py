"""Align two images of the same thing: patch affines, blended into one smooth field, by gradient descent."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from register._version import __version__
from register.errors import RegisterError, RegisterWarning

if TYPE_CHECKING:
    from register.api import align, warp
    from register.engine.pair import Alignment
    from register.io.images.model import Image
    from register.io.images.open import read_image, write_image
    from register.settings import Settings
    from register.transforms.transform import Transform

__all__ = [
    "Alignment",
    "Image",
    "RegisterError",
    "RegisterWarning",
    "Settings",
    "Transform",
    "__version__",
    "align",
    "read_image",
    "warp",
    "write_image",
]

_HOMES = {
    "Alignment": "register.engine.pair",
    "Image": "register.io.images.model",
    "Settings": "register.settings",
    "Transform": "register.transforms.transform",
    "align": "register.api",
    "read_image": "register.io.images.open",
    "warp": "register.api",
    "write_image": "register.io.images.open",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for only then, so that ``import register`` and ``register --help`` do not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'register' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
