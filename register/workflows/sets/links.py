"""The links of a set: pairs aligned by the runners of ``batch``, in rounds while links are missing."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from register.engine.group import graph
from register.engine.group.links import Link
from register.errors import RegisterError
from register.images.pyramid import Level
from register.settings import Settings
from register.transforms.transform import Transform
from register.workflows import batch
from register.workflows.batch import PairOutcome, Runner
from register.workflows.pairs import Pair
from register.workflows.sets import order as ordering
from register.workflows.sets.images import SetImage, link_pair

LINKS = "links"
"""The folder of the links, below that of the set."""
ROUNDS = 3
"""Times that pairs around links which are not ok are added."""
MIRRORED = "the mirrored moving image matches"
"""The note of an alignment that suggests to mirror the image."""


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


@dataclass
class Links:
    """Aligns the links of a set, and remembers the better of a link and its mirrored repetition.

    ``runner_for`` makes the runner for some pairs, ``read`` the small grey level of an image; ``starts`` are
    files of landmarks from which some links start, ``held`` those that some links hold.
    """

    images: Sequence[SetImage]
    output: Path
    settings: Settings
    runner_for: Callable[[tuple[Pair, ...]], Runner]
    read: Callable[[SetImage], Level]
    starts: dict[graph.Pair, str] = field(default_factory=dict)
    held: dict[graph.Pair, str] = field(default_factory=dict)
    tick: Callable[[PairOutcome], None] = lambda outcome: None
    levels: dict[int, Level] = field(default_factory=dict)
    found: dict[graph.Pair, LinkResult] = field(default_factory=dict)

    def pair(self, one: int, other: int, *, mirrored: bool = False) -> Pair:
        """The pair of a link, with the landmarks that were given for it.

        Without any it is searched mirrored too where features match in the mirrored image only.
        """
        start, held = self.starts.get((one, other)), self.held.get((one, other))
        sigma = self.settings.landmark_sigma if held else None
        chosen = replace(
            self.settings, init=start or self.settings.init, landmarks_hold=held, landmark_sigma=sigma
        )
        if not (start or held or mirrored or chosen.allow_flip or chosen.init != "auto"):
            chosen = replace(chosen, allow_flip=ordering.is_mirrored(self._level(one), self._level(other)))
        return link_pair(self.images[one], self.images[other], chosen, mirrored=mirrored)

    def _level(self, image: int) -> Level:
        """A small grey level of an image, read once."""
        if image not in self.levels:
            self.levels[image] = self.read(self.images[image])
        return self.levels[image]

    def align(self, links: Iterable[graph.Pair], *, mirrored: bool = False) -> None:
        """Align some links; those that were finished before are read."""
        wanted: list[graph.Pair] = list(dict.fromkeys((min(link), max(link)) for link in links))
        if not wanted:
            return
        asked = tuple(self.pair(*link, mirrored=mirrored) for link in wanted)
        pairs = {pair.id: link for pair, link in zip(asked, wanted, strict=True)}
        folder = str(self.output / LINKS)
        for one in batch.run(asked, folder, self.runner_for(asked), tick=self.tick, draw=False):
            self._keep(pairs[one.id], one, Path(folder) / one.id / batch.TRANSFORM)

    def _keep(self, link: graph.Pair, outcome: PairOutcome, path: Path) -> None:
        """Keep a result unless an earlier one of the same link is as good."""
        transform = None if outcome.error else Transform.load(path)
        made = LinkResult(*link, outcome, transform)
        rank = ("failed", "unknown", "suspect", "ok")
        known = self.found.get(link)
        if known is None or rank.index(made.verdict) > rank.index(known.verdict):
            self.found[link] = made

    def verdicts(self) -> dict[graph.Pair, str]:
        """The verdicts of all links so far."""
        return {link: result.verdict for link, result in self.found.items()}


def run(links: Links, order: Sequence[int], neighbours: int) -> list[LinkResult]:
    """Align all links that a set needs, and return them in the order of the set.

    First the neighbours and the links with landmarks; then, mirrored, those of images none of whose links is
    ok; then all other pairs of a small set; then pairs around links that are not ok, several times.
    """
    links.align([*graph.neighbours(order, neighbours), *links.starts, *links.held])
    _mirrored(links)
    links.align(graph.others(order, links.verdicts()))
    for _ in range(ROUNDS):
        more = graph.around(order, links.verdicts())
        if not more:
            break
        links.align(more)
        _mirrored(links)
    place = {image: position for position, image in enumerate(order)}
    return sorted(links.found.values(), key=lambda x: (place[x.fixed], place[x.moving]))


def _mirrored(links: Links) -> None:
    """Repeat, mirrored, links of images without an ok link: suspect ones, and failed ones of which the search
    found that the mirrored image matches."""
    if links.settings.allow_flip:
        return
    verdicts = links.verdicts()
    joined = {image for link, verdict in verdicts.items() if verdict == "ok" for image in link}
    tried = {link for link, result in links.found.items() if result.outcome.id.endswith(".mirrored")}
    wanted = []
    for link, verdict in verdicts.items():
        notes = links.found[link].transform
        hinted = notes is not None and any(MIRRORED in note for note in notes.quality.notes)
        alone = not set(link) <= joined
        if (
            verdict != "ok"
            and not links.found[link].outcome.error
            and (hinted or alone)
            and link not in tried
            and link not in links.held  # landmarks say whether it is mirrored
        ):
            wanted.append(link)
    links.align(wanted, mirrored=True)


def parse_landmarks(texts: Sequence[str], images: Sequence[SetImage], option: str) -> dict[graph.Pair, str]:
    """The files of landmarks of links, from texts ``FIXED_ID,MOVING_ID,FIXED.csv,MOVING.csv`` of an option.

    Raises ``RegisterError`` for an unknown id, the same image or the same link twice, and a text of another
    form.
    """
    index = {image.id: number for number, image in enumerate(images)}
    found = {}
    for text in texts:
        parts = [part.strip() for part in text.split(",")]
        if len(parts) != 4:
            raise RegisterError(f"{option} {text!r}: write FIXED_ID,MOVING_ID,FIXED.csv,MOVING.csv")
        for name in parts[:2]:
            if name not in index:
                raise RegisterError(f"{option}: no image has the id {name!r}; there are {', '.join(index)}")
        for name in parts[2:]:
            if not Path(name).is_file():
                raise RegisterError(f"{option}: {name} does not exist; check the path")
        one, other = index[parts[0]], index[parts[1]]
        files = parts[2:]
        if one > other:
            one, other, files = other, one, files[::-1]
        if one == other or (one, other) in found:
            what = "both ids are the same" if one == other else "this link was given before"
            raise RegisterError(f"{option} {text!r}: {what}; name each link once")
        found[one, other] = ",".join(files)
    return found
