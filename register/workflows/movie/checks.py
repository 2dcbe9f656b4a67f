"""What a movie cannot be given, or not be written as, refused before its first frame is aligned."""

from collections.abc import Sequence

import numpy as np

from register.errors import FileError, RegisterError
from register.images.arrays import grey_level
from register.io.movies.stack import Stack
from register.io.movies.write import format_of
from register.settings import Settings
from register.transforms.resample import check_fill
from register.workflows.movie.tasks import Channel


def check_channels(channels: Sequence[Channel], settings: Settings, name: str) -> None:
    """Raise ``RegisterError`` for a channel that the movie, the first of ``channels``, does not have, and for
    frames that the format of a ``name`` cannot hold."""
    check_compared(channels[0].stack, settings)
    chosen = format_of(name, settings.compression)[0]
    for one in channels:
        check_fill(settings.fill, one.stack.dtype)
        chosen.check(one.target, one.stack)


def check_compared(stack: Stack, settings: Settings) -> None:
    """Raise ``FileError`` where the channel that is compared does not exist."""
    if settings.fixed_channel is None:
        return
    try:
        grey_level(np.moveaxis(stack.frame(0), 0, 2), channel=settings.fixed_channel)
    except FileError:
        raise
    except RegisterError as error:
        raise FileError(stack.files[0], str(error)) from None
