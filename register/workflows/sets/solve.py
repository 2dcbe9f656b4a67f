"""``register group``: a set of images in one common frame."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from register._version import __version__
from register.engine.group import graph, solution
from register.engine.group.links import parts
from register.engine.group.solution import AGREES, Solution
from register.errors import RegisterError
from register.files.hashes import sha256
from register.files.remote import is_remote
from register.images.pyramid import Level
from register.io.images.masks import read_mask
from register.io.images.model import Image, Selection
from register.io.images.open import open_image
from register.io.images.working import Validity, working_level
from register.settings import Settings, working_size
from register.transforms.frame import Frame
from register.transforms.quality import Provenance, Verdict
from register.transforms.transform import Transform
from register.workflows.batch import PairOutcome, Runner
from register.workflows.pairs import Pair
from register.workflows.plan import BASE_MEMORY, PER_WORKING_PIXEL
from register.workflows.sets import links as set_links
from register.workflows.sets import order as ordering
from register.workflows.sets.file_links import FileLinks, parse_landmarks
from register.workflows.sets.images import SetImage, link_pair
from register.workflows.sets.links import LinkResult, Links

SECONDS_PER_LINK, SECONDS_PER_PIXEL = 2.0, 3e-6
"""About what a link takes on one core, besides and per pixel of its working copy."""


@dataclass(frozen=True)
class GroupOptions:
    """How a set is brought into one frame.

    ``order`` is ``given`` or ``auto``, ``neighbours`` the number of following images that each is linked to,
    ``reference`` is ``auto``, ``mean`` or an id. ``starts`` are ``FIXED_ID,MOVING_ID,FIXED.csv,MOVING.csv``:
    landmarks from which a link starts; ``held`` those that a link holds.
    """

    order: str = "given"
    neighbours: int = 2
    reference: str = "auto"
    starts: tuple[str, ...] = ()
    held: tuple[str, ...] = ()


@dataclass(frozen=True)
class Member:
    """One image of a solved set.

    ``group`` is the number of its group, from 1; 0 for an image without one. ``transform`` maps the common
    frame of its group to the image; None where the verdict is ``failed``. ``error`` says why the image could
    not be read.
    """

    image: SetImage
    frame: Frame | None
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    group: int = 0
    transform: Transform | None = None
    error: bool = False


@dataclass(frozen=True)
class LinkFit:
    """A link with the share of its weight that it kept and its residual in pixels; None where it has none."""

    result: LinkResult
    kept: float | None = None
    residual: float | None = None

    @property
    def weight(self) -> float:
        """The weight in the joint solution: the trust in its verdict times the share that it kept."""
        link = self.result.link()
        return 0.0 if link is None or self.kept is None else round(link.trust * self.kept, 4)


@dataclass(frozen=True)
class Group:
    """A solved set: members in the order of the input, the order as indices, links, and a frame per group."""

    members: tuple[Member, ...]
    order: tuple[int, ...]
    links: tuple[LinkFit, ...]
    frames: tuple[Frame, ...] = ()
    references: tuple[int | None, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> list[Member]:
        """The members of the first group that have a transform, in order."""
        return [
            self.members[n] for n in self.order if self.members[n].group == 1 and self.members[n].transform
        ]


@dataclass(frozen=True)
class Opened:
    """The images of a set, opened: a frame each, or the message of the error."""

    frames: tuple[Frame | None, ...]
    errors: tuple[str, ...] = field(default=())

    @property
    def readable(self) -> list[int]:
        """The indices of the images that can be read."""
        return [n for n, frame in enumerate(self.frames) if frame is not None]


def selection(settings: Settings) -> Selection:
    """The part of each file that is read."""
    return Selection(settings.series, settings.fixed_level, settings.fixed_plane, settings.allow_truncated)


def open_set(images: Sequence[SetImage], settings: Settings) -> Opened:
    """Open every image and mask; one that cannot be used gets a message instead of a frame."""
    frames: list[Frame | None] = []
    errors = []
    for image in images:
        try:
            found = opened(image, settings)
            if image.mask:
                read_mask(image.mask, found.size)
            size = found.size
            frames.append(Frame(size[1], size[0], found.pixel_size, image.path, sha256(Path(image.path))))
            errors.append("")
        except RegisterError as error:
            frames.append(None)
            errors.append(" ".join(str(error).split()))
    return Opened(tuple(frames), tuple(errors))


def opened(image: SetImage, settings: Settings) -> Image:
    """One image, opened."""
    return open_image(image.path, selection(settings))


def planned_links(
    images: Sequence[SetImage], found: Opened, options: GroupOptions, settings: Settings,
    tick: Callable[[float], None] = lambda share: None,
) -> tuple[list[int], list[str]]:  # fmt: skip
    """The order of the readable images, and remarks. Raises ``RegisterError`` for an unknown reference."""
    known = [image.id for image in images]
    if options.reference not in (solution.AUTO, solution.MEAN, *known):
        raise RegisterError(f"--reference {options.reference!r}: auto, mean, or one of {', '.join(known)}")
    readable = found.readable
    if len(readable) < 2:
        first = next((error for error in found.errors if error), "")
        raise RegisterError(f"fewer than two images can be read: {first}")
    if options.order == "given":
        return readable, []
    levels = [small_level(images[n], settings) for n in readable]
    order = [readable[n] for n in ordering.by_similarity(levels, tick)]
    return order, ["the order was found by similarity"]


@dataclass(frozen=True)
class Plan:
    """What a set would cost: its first links by ids, unreadable images, processes, seconds, bytes."""

    links: tuple[tuple[str, str], ...]
    images: int
    unreadable: tuple[str, ...]
    workers: int
    seconds: int
    memory: int


def plan(
    images: Sequence[SetImage], settings: Settings, options: GroupOptions, workers: int | None = None
) -> Plan:
    """The links that are aligned first, and about what they cost; pairs around links that fail are not known.

    Writes nothing. Raises ``RegisterError`` as ``solve`` does.
    """
    from register.workflows.workers import worker_count

    found = open_set(images, settings)
    order, _ = planned_links(images, found, options, settings)
    starts, held = landmarks_of(options, images)
    asked = [*graph.neighbours(order, options.neighbours), *starts, *held]
    asked += graph.others(order, dict.fromkeys(asked, "ok"))
    wanted = list(dict.fromkeys((min(link), max(link)) for link in asked))
    pairs = [link_pair(images[one], images[other], settings) for one, other in wanted]
    count, limit = worker_count(pairs, workers), working_size(settings)
    sides = [min(max(frame.width, frame.height), limit) for frame in found.frames if frame]
    pixels = max(sides, default=0) ** 2
    seconds = len(pairs) * (SECONDS_PER_LINK + SECONDS_PER_PIXEL * pixels) / count
    links = tuple((images[one].id, images[other].id) for one, other in wanted)
    return Plan(
        links, len(images), tuple(error for error in found.errors if error), count, round(seconds),
        BASE_MEMORY + PER_WORKING_PIXEL * pixels,
    )  # fmt: skip


def landmarks_of(
    options: GroupOptions, images: Sequence[SetImage]
) -> tuple[dict[graph.Pair, str], dict[graph.Pair, str]]:
    """The files of landmarks from which links start, and of those that links hold.

    Raises ``RegisterError`` for values that are wrong.
    """
    starts = parse_landmarks(options.starts, images, "--link")
    return starts, parse_landmarks(options.held, images, "--link-hold")


def small_level(image: SetImage, settings: Settings) -> Level:
    """A small grey level of an image, of the channel that is compared."""
    found = opened(image, settings)
    validity = Validity(found, settings.nodata, read_mask(image.mask, found.size) if image.mask else None)
    channel = image.channel or settings.fixed_channel
    return working_level(found, validity, ordering.SIDE, channel=channel)[0]


def solve(
    images: Sequence[SetImage],
    output: Path,
    settings: Settings,
    options: GroupOptions,
    runner_for: Callable[[tuple[Pair, ...]], Runner],
    *,
    tick: Callable[[PairOutcome], None] = lambda outcome: None,
) -> Group:
    """Align the links of a set and solve for the transforms of all images; writes the links only.

    Raises ``RegisterError`` for a reference that does not exist or has failed, and for a set of which fewer
    than two images can be read.
    """
    if is_remote(str(output)):
        raise RegisterError(f"{output}: results of a set need a local folder")
    found = open_set(images, settings)
    order, notes = planned_links(images, found, options, settings)
    starts, held = landmarks_of(options, images)
    aligner = FileLinks(
        images, output, settings, runner_for, lambda image: small_level(image, settings), starts, held, tick
    )
    links = Links(aligner, (*starts, *held), held)
    return joined(links, images, found, order, settings, options, notes)


def joined(
    links: Links, images: Sequence[SetImage], found: Opened, order: Sequence[int], settings: Settings,
    options: GroupOptions, notes: Sequence[str],
) -> Group:  # fmt: skip
    """The group of opened images: their links are aligned, and solved together.

    Where links contradict each other, and the others do not tell which is wrong, further ones are aligned.
    Raises ``RegisterError`` where the image that is named as reference failed.
    """
    set_links.run(links, order, options.neighbours, mirror=not settings.allow_flip)
    for _ in range(set_links.ROUNDS):
        made = _solved(images, found, order, links.results(order), settings, options, notes)
        if not set_links.around(links, order, _unsettled(made)):
            break
    else:
        made = _solved(images, found, order, links.results(order), settings, options, notes)
    named = [member for member in made.members if member.image.id == options.reference]
    if named and named[0].transform is None:
        raise RegisterError(
            f"--reference {options.reference}: this image failed ({'; '.join(named[0].reasons)})"
        )
    return made


def _unsettled(made: Group) -> list[int]:
    """Images with an ok link that disagrees with the others, or is far from the solution, of which fewer than
    two ok ones agree."""
    sure: dict[int, int] = {}
    doubtful = set[int]()
    for fit in made.links:
        if fit.result.verdict == "ok":
            ends, agrees = (fit.result.fixed, fit.result.moving), _agrees(fit, made)
            for image in ends:
                sure[image] = sure.get(image, 0) + agrees
            doubtful |= set() if agrees else set(ends)
    return sorted(image for image in doubtful if sure[image] < 2)


def _agrees(fit: LinkFit, made: Group) -> bool:
    """Whether a link agrees with the joint solution."""
    if fit.kept is None or fit.kept < AGREES:
        return False
    frame = made.frames[made.members[fit.result.fixed].group - 1]
    return (fit.residual or 0.0) <= solution.largest_residual(frame)


def _solved(
    images: Sequence[SetImage], found: Opened, order: Sequence[int], results: Sequence[LinkResult],
    settings: Settings, options: GroupOptions, notes: Sequence[str],
) -> Group:  # fmt: skip
    """The group of finished links: the joint solution, and the verdict of every image."""
    members = [
        Member(image, frame, Verdict.FAILED, (error or _why_alone(n, results),), error=bool(error))
        for n, (image, frame, error) in enumerate(zip(images, found.frames, found.errors, strict=True))
    ]
    fits = {id(result): LinkFit(result) for result in results}
    frames, references = [], []
    for number, part in enumerate(_groups(found.readable, results), start=1):
        made, given, used = _solve_part(images, found, part, results, settings, options)
        frames.append(replace(made.frame, path=made.frame.path if made.reference is not None else None))
        references.append(made.reference)
        for result, kept, residual in zip(used, made.kept, made.residual, strict=True):
            fits[id(result)] = LinkFit(result, float(kept), float(residual) if residual == residual else None)
        for image, (verdict, reasons) in given.items():
            if number > 1 and verdict == Verdict.OK:
                verdict, reasons = Verdict.SUSPECT, (f"no link joins group {number} with the first one",)
            members[image] = _member(members[image], made, image, verdict, reasons, number, settings)
    if not frames:
        notes = [*notes, "no link is ok or suspect: there is no common frame"]
    if len(frames) > 1:
        notes = [*notes, f"there are {len(frames)} groups without links between them, each in its own frame"]
    ordered = [*order, *(n for n in range(len(images)) if n not in order)]
    return Group(
        tuple(members), tuple(ordered), tuple(fits.values()), tuple(frames), tuple(references), tuple(notes)
    )


def _groups(readable: Sequence[int], results: Sequence[LinkResult]) -> list[list[int]]:
    """The groups of images, of two or more, that ok and suspect links join."""
    usable = [(x.fixed, x.moving) for x in results if (link := x.link()) and link.trust > 0]
    return [part for part in parts(max(readable) + 1, usable) if len(part) > 1]


def _solve_part(
    images: Sequence[SetImage], found: Opened, part: Sequence[int], results: Sequence[LinkResult],
    settings: Settings, options: GroupOptions,
) -> tuple[Solution, dict[int, tuple[Verdict, tuple[str, ...]]], list[LinkResult]]:  # fmt: skip
    """The solution of one group, solved again without the images that failed; verdicts and the links used."""
    frames = [frame or Frame(1, 1) for frame in found.frames]
    failed: dict[int, tuple[Verdict, tuple[str, ...]]] = {}
    members = list(part)
    while True:
        used = [
            x for x in results
            if x.fixed in members and x.moving in members and (link := x.link()) and link.trust > 0
        ]  # fmt: skip
        links = [link for x in used if (link := x.link())]
        made = solution.solve(
            frames, members, links, reference=_reference(images, members, options.reference),
            model=settings.model, union=settings.canvas == "union",
        )  # fmt: skip
        given = solution.verdicts(made, members, links)
        wrong = {image: verdict for image, verdict in given.items() if verdict[0] == Verdict.FAILED}
        if not wrong or len(members) - len(wrong) < 2:
            return made, given | failed, used
        failed |= wrong
        members = [image for image in members if image not in wrong]


def _reference(images: Sequence[SetImage], members: Sequence[int], asked: str) -> str | int:
    """The index of the reference that was asked for, if this group has it, or else how it is chosen."""
    return next(
        (n for n in members if images[n].id == asked), asked if asked == solution.MEAN else solution.AUTO
    )


def _member(
    member: Member, made: Solution, image: int, verdict: Verdict, reasons: tuple[str, ...], number: int,
    settings: Settings,
) -> Member:  # fmt: skip
    """A member of a solved group, with its transform unless it failed."""
    if verdict == Verdict.FAILED:
        return replace(member, reasons=reasons)
    transform = solution.with_verdict(made.transforms[image], verdict, reasons)
    if image == made.reference:
        transform = replace(transform, quality=replace(transform.quality, expected_error=0.0))
    frame = made.frame if made.reference is not None else replace(made.frame, path=None, sha256=None)
    values = asdict(settings) | {"moving_mask": member.image.mask, "moving_channel": member.image.channel}
    provenance = Provenance(register=__version__, settings=values)
    transform = replace(transform, fixed=frame, provenance=provenance)
    return replace(member, verdict=verdict, reasons=reasons, group=number, transform=transform)


def _why_alone(image: int, results: Sequence[LinkResult]) -> str:
    """Why no link joins an image with others."""
    own = [x for x in results if image in (x.fixed, x.moving)]
    errors = [x.outcome.error for x in own if x.outcome.error]
    if errors and len(errors) == len(own):
        return errors[0]
    verdicts = sorted({x.verdict for x in own}) or ["none"]
    return f"none of its {len(own)} links is ok (verdicts: {', '.join(verdicts)})"


def disagreeing(group: Group) -> list[LinkFit]:
    """The links that lost their weight because they disagree with the others."""
    return [fit for fit in group.links if fit.kept is not None and fit.kept < AGREES]
