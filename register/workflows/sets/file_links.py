"""Links between image files: pairs aligned by the runners of ``batch``, and the landmarks given for them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from register.engine.group import graph
from register.errors import RegisterError
from register.images.pyramid import Level
from register.io.points.landmarks import read_pairs
from register.settings import Settings
from register.transforms.transform import Transform
from register.workflows import batch
from register.workflows.batch import PairOutcome, Runner
from register.workflows.pairs import Pair
from register.workflows.sets import order as ordering
from register.workflows.sets.images import SetImage, link_pair
from register.workflows.sets.links import LinkResult

LINKS = "links"
"""The folder of the links, below that of the set."""


@dataclass
class FileLinks:
    """Aligns links into folders below ``output``; those that were finished before are read.

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

    def __call__(self, links: Sequence[graph.Pair], *, mirrored: bool) -> Iterator[LinkResult]:
        """See ``Aligner``."""
        asked = tuple(self.pair(*link, mirrored=mirrored) for link in links)
        pairs = {pair.id: link for pair, link in zip(asked, links, strict=True)}
        folder = str(self.output / LINKS)
        for one in batch.run(asked, folder, self.runner_for(asked), tick=self.tick, draw=False):
            path = Path(folder) / one.id / batch.TRANSFORM
            yield LinkResult(*pairs[one.id], one, None if one.error else Transform.load(path))

    def pair(self, one: int, other: int, *, mirrored: bool = False) -> Pair:
        """The pair of a link, with the landmarks that were given for it.

        Without any it is searched mirrored too where features match in the mirrored image only.
        """
        start, held = self.starts.get((one, other)), self.held.get((one, other))
        sigma = self.settings.landmark_sigma if held else None
        chosen = replace(
            self.settings, init=start or self.settings.init, landmarks_hold=held, landmark_sigma=sigma
        )
        if not (start or held or mirrored or chosen.allow_flip):
            chosen = ordering.flipped(chosen, self._level(one), self._level(other))
        return link_pair(self.images[one], self.images[other], chosen, mirrored=mirrored)

    def _level(self, image: int) -> Level:
        """A small grey level of an image, read once."""
        if image not in self.levels:
            self.levels[image] = self.read(self.images[image])
        return self.levels[image]


def parse_landmarks(texts: Sequence[str], images: Sequence[SetImage], option: str) -> dict[graph.Pair, str]:
    """The files of landmarks of links, from texts ``FIXED_ID,MOVING_ID,FIXED.csv,MOVING.csv`` of an option.

    Raises ``RegisterError`` for an unknown id, the same image or the same link twice, files that are not the
    same landmarks row by row, and a text of another form.
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
        try:
            read_pairs(",".join(parts[2:]))
        except RegisterError as error:
            raise RegisterError(f"{option} {text!r}: {error}") from None
        one, other = index[parts[0]], index[parts[1]]
        files = parts[2:]
        if one > other:
            one, other, files = other, one, files[::-1]
        if one == other or (one, other) in found:
            what = "both ids are the same" if one == other else "this link was given before"
            raise RegisterError(f"{option} {text!r}: {what}; name each link once")
        found[one, other] = ",".join(files)
    return found
