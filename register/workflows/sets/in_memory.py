"""Sets of images in Python: what ``register group`` does, on arrays, tensors or paths, without its files."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from register import api, settings
from register.compute.defaults import usual_defaults
from register.compute.plan import ComputePlan
from register.engine.group import graph, solution
from register.errors import RegisterError
from register.io.images.given import GivenImage, ImageLike, given_image, in_common, is_path
from register.io.points.landmarks import Landmarks
from register.kernels import dispatch
from register.settings import Settings
from register.transforms.frame import Frame
from register.transforms.quality import Verdict
from register.transforms.transform import Transform
from register.workflows import batch
from register.workflows.batch import PairOutcome
from register.workflows.pairs import Pair
from register.workflows.sets import order as ordering
from register.workflows.sets import solve as workflow
from register.workflows.sets.images import SetImage
from register.workflows.sets.links import LinkResult, Links

KEPT = 6
"""Grey images that are kept, with what is computed of them, for further links."""
OF_PAIRS = (
    "fixed_mask", "moving_mask", "split_mask", "fixed_channel", "moving_channel", "fixed_level",
    "moving_level", "fixed_plane", "moving_plane", "landmarks", "landmarks_hold", "valid_mask",
    "occlusion_mask", "residual_map",
)  # fmt: skip
"""Settings that a pair has, and a set not."""


@dataclass(frozen=True)
class GroupMember:
    """One image of a set: its verdict with reasons, and the number of its group of linked images, from 1.

    ``transform`` maps points of the common frame of the group to the image. An image that does not belong
    has the verdict ``failed``, no transform, and the group 0.
    """

    transform: Transform | None
    verdict: Verdict
    reasons: tuple[str, ...]
    group: int


@dataclass(frozen=True)
class GroupLink:
    """The alignment of the image number ``moving`` to the image number ``fixed``, and what became of it.

    ``weight`` in [0, 1] is its weight in the joint solution, 0 where it failed or disagrees with the others;
    ``residual`` its median distance from the joint solution in pixels of the moving image, None without
    weight from the start. ``transform`` is None where an error ended the alignment, which is then the reason.
    """

    fixed: int
    moving: int
    transform: Transform | None
    verdict: Verdict
    reasons: tuple[str, ...]
    weight: float
    residual: float | None


@dataclass(frozen=True)
class GroupAlignment:
    """A set of images in one frame: ``group[n]`` is the transform from the common frame to image n.

    ``members`` are the images as they were given, ``order`` their numbers in the order in which they were
    linked. Without a link between them images fall into several groups, the largest first, each with its
    frame and the number of its reference image (None: the mean of its images).
    """

    members: tuple[GroupMember, ...]
    links: tuple[GroupLink, ...]
    order: tuple[int, ...]
    frames: tuple[Frame, ...]
    references: tuple[int | None, ...]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, number: int) -> Transform:
        """The transform of an image. Raises ``RegisterError`` with the reason for one that failed."""
        member = self.members[number]
        if member.transform is None:
            raise RegisterError(f"image {number} has no transform: {'; '.join(member.reasons)}")
        return member.transform


def align_group(
    images: Sequence[ImageLike],
    *,
    masks: Sequence[ImageLike | None] | None = None,
    order: Literal["given", "auto"] = "given",
    neighbours: int = 2,
    reference: int | Literal["auto", "mean"] = "auto",
    channel: str | None = None,
    held: Mapping[tuple[int, int], Landmarks] | None = None,
    **values: Any,
) -> GroupAlignment:
    """Align a set of images, such as serial sections or rounds of staining, in one common frame.

    ``images`` and ``masks`` are what ``align`` takes; sizes, channels and types may differ. Each image is
    aligned with the ``neighbours`` that follow in ``order`` (``auto``: by similarity), of six or fewer with
    all others, and around links that are not ``ok``; then the maps of all images are computed together.
    ``reference`` is the number of the image whose grid is the common frame, ``auto`` (the best connected
    one), or ``mean``: a frame without the net rotation, scale and shear of the set, which holds all images.
    ``channel`` is compared of every image; by default it is chosen, for files by the names of channels.
    ``held`` are fixed and moving landmarks (n, 2), ``(x, y)`` in pixels, that links hold, by the numbers of
    their two images. The keyword arguments ``values`` are options of ``register.settings.Settings`` that do
    not belong to one image. ``register.warp(images[n], group[n])`` resamples an image on the common frame.

    Images that do not belong are ``failed`` and left out; nothing is written. Raises ``RegisterError`` for
    fewer than two images, a setting that a set does not have, and a reference that failed; errors of a
    single link are among its reasons.

    The method is described in docs/explanation/method.md: robust least squares over the graph of links with
    graduated non-convexity (Yang et al., IEEE RA-L 5, 2020), then patch fields of all images together.
    """
    chosen = _settings(images, values, channel, held)
    options = workflow.GroupOptions(order, neighbours, str(reference))
    _check(len(images), options, masks)
    with usual_defaults():
        aligner = _Aligner(images, masks or [None] * len(images), chosen, held or {})
        frames = tuple(aligner.given(n, channel).frame for n in range(len(images)))
        numbers, notes = list(range(len(images))), list[str]()
        if order == "auto":
            numbers = ordering.by_similarity(aligner.given(n, channel).level for n in numbers)
            notes.append("the order was found by similarity")
        links = Links(aligner, tuple(aligner.held), tuple(aligner.held))
        found = workflow.Opened(frames, ("",) * len(frames))
        named = [SetImage(str(n), frame.path or "") for n, frame in enumerate(frames)]
        return _public(workflow.joined(links, named, found, numbers, chosen, options, notes))


def _settings(
    images: Sequence[ImageLike],
    values: Mapping[str, Any],
    channel: str | None,
    held: Mapping[tuple[int, int], Landmarks] | None,
) -> Settings:
    """The settings. Raises ``RegisterError`` for those that a set, or one of arrays, does not have."""
    for name in values:
        if name in OF_PAIRS:
            raise RegisterError(f"{name} is an option of a pair; a set has images, masks, channel and held")
        if name in settings.FILES_ONLY and not any(map(is_path, images)):
            raise RegisterError(f"{name} is for files; index the arrays instead")
    chosen = settings.check(**values)
    if chosen.init not in ("auto", "identity", "center"):
        raise RegisterError(f"init of a set is auto, identity or center, not {chosen.init!r}; hold landmarks")
    if chosen.landmark_sigma and not held:
        raise RegisterError("landmark_sigma is the error of the landmarks that are held; give them")
    return replace(chosen, fixed_channel=channel, moving_channel=channel)


def _check(count: int, options: workflow.GroupOptions, masks: Sequence[ImageLike | None] | None) -> None:
    """Raise ``RegisterError`` for arguments that are not allowed for ``count`` images."""
    if count < 2:
        raise RegisterError("a set needs at least two images")
    if masks is not None and len(masks) != count:
        raise RegisterError(f"{len(masks)} masks for {count} images: give one or None for each")
    if not isinstance(options.neighbours, int) or options.neighbours < 1:
        raise RegisterError(f"neighbours is {options.neighbours!r}: a number of at least 1")
    if options.order not in ("given", "auto"):
        raise RegisterError(f"order {options.order!r}: given or auto")
    if options.reference not in (solution.AUTO, solution.MEAN, *map(str, range(count))):
        raise RegisterError(f"reference {options.reference}: auto, mean, or a number below {count}")


class _Aligner:
    """Aligns links in this process; the last grey images are kept with what is computed of them."""

    def __init__(
        self,
        images: Sequence[ImageLike],
        masks: Sequence[ImageLike | None],
        chosen: Settings,
        held: Mapping[tuple[int, int], Landmarks],
    ) -> None:
        self.images, self.masks, self.chosen = images, masks, chosen
        self.held = dict(_ordered(pair, points, len(images)) for pair, points in held.items())
        self.plan = ComputePlan.of(chosen.device, chosen.threads)
        dispatch.warm_up(self.plan.input_device)
        self.given = lru_cache(KEPT)(self._given)

    def _given(self, number: int, channel: str | None) -> GivenImage:
        """The grey image of one channel of an image. Raises ``RegisterError`` that names the image."""
        read = replace(self.chosen, fixed_channel=channel)
        image, mask = self.images[number], self.masks[number]
        try:
            return given_image("fixed", image, mask, read, self.plan.input_device)
        except RegisterError as error:
            raise RegisterError(f"image {number}: {error}") from None

    def __call__(self, links: Sequence[graph.Pair], *, mirrored: bool) -> Iterator[LinkResult]:
        """See ``Aligner``."""
        for one, other in sorted(links):  # so that images are used again soon
            yield self._link(one, other, mirrored=mirrored)

    def _link(self, one: int, other: int, *, mirrored: bool) -> LinkResult:
        named = in_common(self.images[one], self.images[other], self.chosen)
        fixed, moving = self.given(one, named.fixed), self.given(other, named.moving)
        points = self.held.get((one, other))
        chosen = self.chosen if points else replace(self.chosen, landmark_sigma=None)
        pair = Pair(
            f"{one}--{other}" + (".mirrored" if mirrored else ""),
            fixed.frame.path or str(one),
            moving.frame.path or str(other),
            chosen,
        )
        try:
            if mirrored:
                chosen = replace(chosen, allow_flip=True)
            elif points is None:
                chosen = ordering.flipped(chosen, fixed.level, moving.level)
            found = api.align_given(
                fixed, moving, chosen, plan=self.plan, landmarks=points, names=named.shared, shared=True
            )
        except RegisterError as error:
            why = " ".join(str(error).split())
            return LinkResult(one, other, PairOutcome(pair.id, pair.fixed, pair.moving, error=why))
        return LinkResult(one, other, batch.outcome(pair, found.transform), found.transform)


def _ordered(pair: graph.Pair, points: Landmarks, count: int) -> tuple[graph.Pair, Landmarks]:
    """A pair of numbers in ascending order, with its landmarks in the same order."""
    one, other = pair
    if one == other or not {one, other} <= set(range(count)):
        raise RegisterError(f"held: {pair} are not the numbers of two of {count} images")
    return (pair, points) if one < other else ((other, one), (points[1], points[0]))


def _public(made: workflow.Group) -> GroupAlignment:
    """A solved set without the names of files."""
    links = tuple(
        GroupLink(
            fit.result.fixed,
            fit.result.moving,
            fit.result.transform,
            Verdict(fit.result.verdict),
            (fit.result.reasons,) if fit.result.reasons else (),
            fit.weight,
            fit.residual,
        )
        for fit in made.links
    )
    members = tuple(GroupMember(x.transform, x.verdict, x.reasons, x.group) for x in made.members)
    return GroupAlignment(members, links, made.order, made.frames, made.references, made.notes)
