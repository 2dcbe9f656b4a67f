"""The links of a set: pairs that are aligned in rounds while links are missing."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from register.engine.group import graph
from register.engine.group.links import Link
from register.transforms.transform import Transform
from register.workflows.batch import PairOutcome

ROUNDS = 3
"""Times that pairs around links which are not ok are added."""


@dataclass(frozen=True)
class LinkResult:
    """A finished link between two images, which are indices: its outcome, and its transform if it has one."""

    fixed: int
    moving: int
    outcome: PairOutcome
    transform: Transform | None = None

    @property
    def verdict(self) -> str:
        """The verdict; ``failed`` where there was an error."""
        return self.outcome.verdict or "failed"

    @property
    def reasons(self) -> str:
        """Why the verdict is not ok: reasons or the error."""
        return self.outcome.error or self.outcome.reasons

    def link(self) -> Link | None:
        """The link for the joint solution."""
        return None if self.transform is None else Link.of(self.fixed, self.moving, self.transform)


class Aligner(Protocol):
    """Aligns links of a set."""

    def __call__(self, links: Sequence[graph.Pair], *, mirrored: bool) -> Iterator[LinkResult]:
        """The results of links, whose moving images may be ``mirrored`` too."""


@dataclass
class Links:
    """The links of a set so far: of each the better of the link and its mirrored repetition.

    ``given`` are links that are aligned in any case; those that are ``held`` by landmarks are not mirrored.
    ``repeated`` are those that were.
    """

    aligner: Aligner
    given: Collection[graph.Pair] = ()
    held: Collection[graph.Pair] = ()
    found: dict[graph.Pair, LinkResult] = field(default_factory=dict)
    repeated: set[graph.Pair] = field(default_factory=set)

    def align(self, links: Iterable[graph.Pair], *, mirrored: bool = False) -> None:
        """Align some links, each once."""
        wanted = list(dict.fromkeys((min(link), max(link)) for link in links))
        if not wanted:
            return
        if mirrored:
            self.repeated.update(wanted)
        for made in self.aligner(wanted, mirrored=mirrored):
            self._keep(made)

    def _keep(self, made: LinkResult) -> None:
        """Keep a result unless an earlier one of the same link is as good."""
        rank, link = ("failed", "unknown", "suspect", "ok"), (made.fixed, made.moving)
        known = self.found.get(link)
        if known is None or rank.index(made.verdict) > rank.index(known.verdict):
            self.found[link] = made

    def results(self, order: Sequence[int]) -> list[LinkResult]:
        """All links, in the order of the set."""
        place = {image: position for position, image in enumerate(order)}
        return sorted(self.found.values(), key=lambda x: (place[x.fixed], place[x.moving]))

    def verdicts(self) -> dict[graph.Pair, str]:
        """The verdicts of all links so far."""
        return {link: result.verdict for link, result in self.found.items()}


def run(links: Links, order: Sequence[int], neighbours: int, *, mirror: bool = True) -> None:
    """Align all links that a set needs.

    First the neighbours and the links that are given; then, with ``mirror``, those of images none of whose
    links is ok, mirrored; then all other pairs of a small set; then pairs around links that are not ok,
    several times.
    """
    links.align([*graph.neighbours(order, neighbours), *links.given])
    if mirror:
        _mirrored(links)
    links.align(graph.others(order, links.verdicts()))
    for _ in range(ROUNDS):
        more = graph.around(order, links.verdicts())
        if not more:
            break
        links.align(more)
        if mirror:
            _mirrored(links)


def around(links: Links, order: Sequence[int], unsettled: Collection[int]) -> bool:
    """Align further links of images whose links contradict each other; False where none is left."""
    more = graph.further(order, links.verdicts(), unsettled)
    links.align(more)
    return bool(more)


def _mirrored(links: Links) -> None:
    """Repeat, mirrored, the suspect links of images without an ok link.

    A failed alignment has tried the mirrored image itself.
    """
    verdicts = links.verdicts()
    joined = {image for link, verdict in verdicts.items() if verdict == "ok" for image in link}
    wanted = [
        link
        for link, verdict in verdicts.items()
        if verdict == "suspect"
        and not set(link) <= joined
        and link not in links.repeated
        and link not in links.held  # landmarks say whether it is mirrored
    ]
    links.align(wanted, mirrored=True)
