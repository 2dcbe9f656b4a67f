"""Align two images of the same object.

The images may come from different sensors or stains. The transform between them is a global map, or a smooth
field that blends affine maps of patches.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from register._version import __version__
from register.errors import RegisterError, RegisterWarning

if TYPE_CHECKING:
    from register.api import align, warp
    from register.engine.movie.online import Reference, align_movie
    from register.engine.pair import Alignment
    from register.io.images.model import Image
    from register.io.images.open import read_image, write_image
    from register.settings import Settings
    from register.transforms.movie import MovieTransforms, load_movie
    from register.transforms.transform import Transform
    from register.workflows.sets.in_memory import GroupAlignment, GroupLink, GroupMember, align_group

__all__ = [
    "Alignment",
    "GroupAlignment",
    "GroupLink",
    "GroupMember",
    "Image",
    "MovieTransforms",
    "Reference",
    "RegisterError",
    "RegisterWarning",
    "Settings",
    "Transform",
    "__version__",
    "align",
    "align_group",
    "align_movie",
    "load_movie",
    "read_image",
    "warp",
    "write_image",
]

_HOMES = {
    "Alignment": "register.engine.pair",
    "GroupAlignment": "register.workflows.sets.in_memory",
    "GroupLink": "register.workflows.sets.in_memory",
    "GroupMember": "register.workflows.sets.in_memory",
    "Image": "register.io.images.model",
    "MovieTransforms": "register.transforms.movie",
    "Reference": "register.engine.movie.online",
    "Settings": "register.settings",
    "Transform": "register.transforms.transform",
    "align": "register.api",
    "align_group": "register.workflows.sets.in_memory",
    "align_movie": "register.engine.movie.online",
    "load_movie": "register.transforms.movie",
    "read_image": "register.io.images.open",
    "warp": "register.api",
    "write_image": "register.io.images.open",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: ``import register`` does not load PyTorch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'register' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
