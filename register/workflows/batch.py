"""Many pairs: each by itself, what is done already left alone, errors kept beside the results."""

import csv
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from itertools import count
from pathlib import Path

from register._version import __version__
from register.errors import RegisterError, says_no_memory
from register.files import remote
from register.files.atomic import is_unfinished, write_text
from register.files.hashes import sha256
from register.settings import Settings
from register.transforms.transform import Transform
from register.workflows import align, report
from register.workflows.job import Job
from register.workflows.pairs import Pair
from register.workflows.settings_files import hashes, with_files

SUMMARY, TRANSFORM = "summary.csv", "transform.json"
WITHOUT_EFFECT = ("threads",)
"""Settings that change no result."""
COUNTED = ("ok", "suspect", "failed", "error")
"""Verdicts of finished pairs, and the word for a pair that had an error."""
EVERY = 1.0
"""Seconds between two writings of the summary."""


@dataclass(frozen=True)
class PairOutcome:
    """What became of one pair: a row of the summary. ``note`` says whether it was done before, or why it was done again."""

    id: str
    fixed: str
    moving: str
    verdict: str = ""
    reasons: str = ""
    similarity_before: float | None = None
    similarity_after: float | None = None
    displacement_median: float | None = None
    expected_error: float | None = None
    seconds: float | None = None
    error: str = ""
    note: str = ""

    @property
    def failed(self) -> bool:
        """Whether there is an error, or the verdict is that it failed."""
        return bool(self.error) or self.verdict == "failed"


Runner = Callable[[list[Pair]], Iterator[PairOutcome]]
"""Does pairs somewhere and yields their outcomes as they end."""


def do(pair: Pair, output: str, redo: bool = False) -> PairOutcome:
    """Align one pair into its folder of ``output``, or leave it when that is done. Whatever goes wrong is in the outcome."""
    try:
        with tempfile.TemporaryDirectory(prefix="register-") as place:
            return _do(pair, f"{output.rstrip('/')}/{pair.id}", redo, Path(place))
    except RegisterError as error:
        return _erred(pair, " ".join(str(error).split()))
    except Exception as error:  # a bug of ours in one pair must not cost the others
        if says_no_memory(error):
            return _erred(pair, "out of memory; use a smaller --max-size or fewer --workers")
        return _erred(pair, f"unexpected {type(error).__name__}: {' '.join(str(error).split())}")


def _do(pair: Pair, target: str, redo: bool, place: Path) -> PairOutcome:
    files = [_here(name, place / kind) for kind, name in (("fixed", pair.fixed), ("moving", pair.moving))]
    chosen = _with_copies(pair.settings, place)
    why = "asked for" if redo else stale(pair, target, files, chosen)
    if why is None:
        return outcome(pair, _load(target), "done before")
    folder = place / "results" if remote.is_remote(target) else Path(target)
    job = Job(
        files[0],
        files[1],
        folder,
        chosen,
        overwrite=True,
        names=(pair.fixed, pair.moving),
        asked=pair.settings,
    )
    done = align.run(job)
    if remote.is_remote(target):
        remote.store(folder, target, last=TRANSFORM)
    return outcome(pair, done.alignment.transform, f"done again: {why}" if why else "")


def _here(name: str, place: Path) -> Path:
    """The path of a file, or of a copy of it in a folder of its own when it lies elsewhere."""
    place.mkdir()
    return remote.fetch(name, place)


def _with_copies(chosen: Settings, place: Path) -> Settings:
    """Settings whose files, masks, landmarks and starts, are copies where they lie elsewhere."""

    folders = (place / f"file{number}" for number in count())
    return with_files(
        chosen, lambda file: str(_here(file, next(folders))) if remote.is_remote(file) else file
    )


def stale(pair: Pair, target: str, files: list[Path], local: Settings) -> str | None:
    """Why the results in a folder are not those of a pair: empty when there are none; None when they are.

    ``files`` are its images and ``local`` its settings as they lie here.
    """
    if not remote.exists(f"{target}/{TRANSFORM}") or (
        not remote.is_remote(target) and is_unfinished(Path(target))
    ):
        return ""
    try:
        known = _load(target)
    except RegisterError:
        return "its transform could not be read"
    if known.provenance.register != __version__:
        return f"it was made by version {known.provenance.get('register')}"
    before, now = known.provenance.settings, asdict(pair.settings)
    others, known_others = hashes(local), known.provenance.files
    compared = [name for name in now if name not in WITHOUT_EFFECT]
    changed = [
        name
        for name in compared
        if (others[name] != known_others.get(name) if name in others else before.get(name) != now[name])
    ]
    if changed:
        return f"{', '.join(changed)} changed"
    for kind, file, frame in zip(("fixed", "moving"), files, (known.fixed, known.moving), strict=True):
        if sha256(file) != frame.sha256:
            return f"the {kind} image changed"
    return None


def _load(target: str) -> Transform:
    with tempfile.TemporaryDirectory() as place:
        return Transform.load(remote.fetch(f"{target}/{TRANSFORM}", Path(place)))


def outcome(pair: Pair, transform: Transform, note: str = "") -> PairOutcome:
    """The row of a finished pair."""
    quality = transform.quality
    return PairOutcome(
        pair.id,
        pair.fixed,
        pair.moving,
        quality.verdict,
        "; ".join(quality.reasons),
        quality.similarity_before,
        quality.similarity_after,
        quality.displacement_median,
        quality.expected_error,
        transform.provenance.seconds["total"],
        note=note,
    )


def _erred(pair: Pair, error: str) -> PairOutcome:
    return PairOutcome(pair.id, pair.fixed, pair.moving, error=error)


def run(
    pairs: tuple[Pair, ...],
    output: str,
    runner: Runner,
    *,
    max_failures: int | None = None,
    tick: Callable[[PairOutcome], None] = lambda outcome: None,
) -> list[PairOutcome]:
    """Do all pairs by a runner; write ``summary.csv`` as they end, and ``index.html`` at the end. Returns the outcomes that there are, in the pairs' order.

    Stops early after ``max_failures`` errors and verdicts ``failed``. What ends it, Ctrl-C too, finds the summary written.
    """
    found: dict[str, PairOutcome] = {}
    written = 0.0
    outcomes = runner(list(pairs))
    try:
        for one in outcomes:
            found[one.id] = one
            tick(one)
            if time.monotonic() - written > EVERY:
                write_summary(_ordered(pairs, found), output)
                written = time.monotonic()
            if max_failures is not None and sum(x.failed for x in found.values()) >= max_failures:
                break
    finally:
        close = getattr(outcomes, "close", None)
        if close:
            close()
        write_summary(_ordered(pairs, found), output)
    draw_index(_ordered(pairs, found), output)
    return _ordered(pairs, found)


def write_summary(outcomes: list[PairOutcome], output: str) -> None:
    """Write ``summary.csv``: a row per pair that ended, whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [field.name for field in fields(PairOutcome)]
    writer.writerow(names)
    for one in outcomes:
        writer.writerow(["" if value is None else value for value in (getattr(one, name) for name in names)])
    _write(text.getvalue(), f"{output}/{SUMMARY}")


def draw_index(outcomes: list[PairOutcome], output: str) -> None:
    """Draw ``index.html`` of all outcomes, the errors first."""
    errors = {one.id: one.error for one in outcomes if one.error}
    done = [one.id for one in outcomes if not one.error]
    if not remote.is_remote(output):
        report.draw_index([Path(output) / name for name in done], Path(output) / report.INDEX, errors)
        return
    with tempfile.TemporaryDirectory() as place:
        for name in done:
            folder = Path(place) / name
            folder.mkdir()
            for file in (TRANSFORM, "overlay.png"):
                remote.fetch(f"{output}/{name}/{file}", folder)
            (folder / report.REPORT).touch()
        index = report.draw_index([Path(place) / name for name in done], Path(place) / report.INDEX, errors)
        remote.write_remote_text(index.read_text(encoding="utf-8"), f"{output}/{report.INDEX}")


def _ordered(pairs: tuple[Pair, ...], found: dict[str, PairOutcome]) -> list[PairOutcome]:
    return [found[pair.id] for pair in pairs if pair.id in found]


def _write(text: str, name: str) -> None:
    remote.write_remote_text(text, name) if remote.is_remote(name) else write_text(name, text)


def one_after_the_other(output: str, redo: bool = False) -> Runner:
    """The runner that does pairs here."""

    def runner(pairs: list[Pair]) -> Iterator[PairOutcome]:
        for pair in pairs:
            yield do(pair, output, redo)

    return runner


def values(outcomes: list[PairOutcome]) -> dict[str, object]:
    """The counts of verdicts and errors, and the outcomes, as plain values for JSON."""
    words = [one.verdict or "error" for one in outcomes]
    counts = {name: words.count(name) for name in COUNTED}
    return {"counts": counts, "pairs": [asdict(one) for one in outcomes]}
