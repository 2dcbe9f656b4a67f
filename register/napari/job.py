"""Align two layers in a thread: what is asked for, how far it is, and what came out."""

import threading
from dataclasses import dataclass, field, replace

from register import api
from register.compute.defaults import usual_defaults
from register.compute.plan import ComputePlan
from register.engine.pair import Event
from register.errors import AlignmentError, RegisterError
from register.images.pixels import Pixels
from register.io.images.model import Image
from register.io.images.working import Validity, working_level
from register.io.points.landmarks import Landmarks
from register.settings import Settings, working_size
from register.transforms.frame import Frame
from register.transforms.transform import Transform

STAGES = {
    "read": "reading what the layers show",
    "search": "searching for the initial map",
    "global": "fitting one map",
    "local": "fitting patches",
    "done": "done",
}
"""The stages of an alignment in words."""


class Cancelled(Exception):
    """The user cancelled the alignment."""


@dataclass
class Progress:
    """How far an alignment is: the ``share`` that is done and the ``stage``. Threads may read and set it."""

    share: float = 0.0
    stage: str = STAGES["read"]
    _cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """End the alignment at its next step."""
        self._cancelled.set()

    def __call__(self, event: Event) -> None:
        """Take note of an event of the alignment. Raises ``Cancelled``."""
        if self._cancelled.is_set():
            raise Cancelled
        self.share, self.stage = event.done, STAGES.get(event.stage, event.stage)


@dataclass(frozen=True)
class Request:
    """Two images, the settings, masks (1, h, w) that are 0 where an image does not count, and landmarks that
    hold: fixed and moving points (n, 2) in pixels."""

    fixed: Image
    moving: Image
    settings: Settings
    fixed_mask: Pixels | None = None
    moving_mask: Pixels | None = None
    landmarks: Landmarks | None = None


@dataclass(frozen=True)
class Outcome:
    """The transform, or why there is none: an error in one line, or None where the user cancelled."""

    transform: Transform | None = None
    error: str | None = None


def run(request: Request, progress: Progress) -> Outcome:
    """Align two images. What the user can correct is an ``error``; anything else is raised."""
    try:
        return Outcome(align(request, progress))
    except Cancelled:
        return Outcome()
    except AlignmentError as error:
        return Outcome(error=f"the {error.image} layer {error.message}" if error.image else str(error))
    except RegisterError as error:
        return Outcome(error=str(error))


def align(request: Request, progress: Progress) -> Transform:
    """The transform between two images with its quality.

    Images are read band by band, from their coarser levels where these suffice. Raises ``RegisterError`` and
    ``Cancelled``.
    """
    chosen, size = request.settings, working_size(request.settings)
    progress(Event("read", "", 0.0, None))
    with usual_defaults():
        plan = ComputePlan.of(chosen.device, chosen.threads)
        levels, greys = [], []
        for image, mask, channel in (
            (request.fixed, request.fixed_mask, chosen.fixed_channel),
            (request.moving, request.moving_mask, chosen.moving_channel),
        ):
            level, grey = working_level(image, Validity(image, chosen.nodata, mask), size, channel=channel)
            levels.append(level)
            greys.append(grey)
            progress(Event("read", "", 0.01, None))
        made = api.align_levels(
            levels[0],
            levels[1],
            (request.fixed.size, request.moving.size),
            chosen,
            plan=plan,
            pixels=(request.fixed.pixel_size, request.moving.pixel_size),
            landmarks=request.landmarks,
            listener=progress,
        ).transform
    quality = replace(made.quality, fixed_grey=greys[0], moving_grey=greys[1])
    return replace(made, fixed=frame_of(request.fixed), moving=frame_of(request.moving), quality=quality)


def frame_of(image: Image) -> Frame:
    """The frame of an image: size, pixel size, and its file where it has one."""
    height, width = image.size
    return Frame(width, height, image.pixel_size, image.path)
