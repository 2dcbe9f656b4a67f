"""Which options of an alignment have a meaning for a movie."""

from dataclasses import fields

from register.errors import RegisterError
from register.settings import Settings

WITHOUT_MEANING = (
    "moving_channel",
    "fixed_level",
    "moving_level",
    "fixed_plane",
    "moving_plane",
    "series",
    "init",
    "seed",
    "split_mask",
    "valid_mask",
    "occlusion_mask",
    "residual_map",
    "pyramid",
    "pyramid_pages",
    "format",
    "jpeg_quality",
    "chunks",
    "landmarks",
    "landmarks_hold",
    "landmark_sigma",
    "device",
    "metric",
    "optimizer",
    "max_size",
    "max_shift",
)
"""Options of an alignment of two images that a movie does not have."""


WITHOUT_FILES = ("canvas", "interpolation", "fill", "compression", "report", "allow_truncated")
"""Options about files, which a movie in memory does not have either."""


def refuse_meaningless(chosen: Settings, *, in_memory: bool = False) -> None:
    """Raise ``RegisterError`` naming an option that is set and that a movie does not have."""
    usual, refused = Settings(), (*WITHOUT_MEANING, *(WITHOUT_FILES if in_memory else ()))
    for option in fields(Settings):
        if option.name in refused and getattr(chosen, option.name) != getattr(usual, option.name):
            raise RegisterError(f"--{option.name.replace('_', '-')} has no meaning for a movie; leave it out")
