"""``register batch``: many pairs; finished ones are skipped, and an error in one does not stop the others."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from register._version import __version__
from register.errors import RegisterError, is_out_of_memory
from register.files import remote
from register.files.atomic import is_unfinished, refuse_inputs, write_text
from register.files.hashes import sha256
from register.files.scratch import scratch_folder
from register.files.tables import table_text
from register.settings import OUTPUT_ONLY, Settings
from register.transforms.transform import Transform
from register.workflows import align, report
from register.workflows.job import Job
from register.workflows.local_files import LocalFiles, local_files
from register.workflows.pairs import Pair
from register.workflows.settings_files import hashes

SUMMARY, TRANSFORM = "summary.csv", "transform.json"
WITHOUT_EFFECT = ("threads",)
"""Settings that do not change the results."""
COUNTED = ("ok", "suspect", "failed", "error")
"""The verdicts of finished pairs, and ``error``, in the order in which they are counted."""
SUMMARY_INTERVAL = 1.0
"""Seconds between two writings of the summary."""


@dataclass(frozen=True)
class PairOutcome:
    """The outcome of one pair: a row of the summary.

    ``note`` is set for a pair that was finished before, or gives the reason why it was aligned again.
    """

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
    channels: str = ""

    @property
    def failed(self) -> bool:
        """Whether there is an error, or the verdict is ``failed``."""
        return bool(self.error) or self.verdict == "failed"


Runner = Callable[[list[Pair]], Iterator[PairOutcome]]
"""Aligns pairs, in this process or others, and yields their outcomes as they finish."""


def align_pair(pair: Pair, output: str, redo: bool = False) -> PairOutcome:
    """Align one pair into its folder of ``output`` unless its results are up to date.

    Every error is caught and becomes part of the outcome.
    """
    try:
        with local_files() as local:
            return _align_pair(pair, f"{output.rstrip('/')}/{pair.id}", redo, local)
    except RegisterError as error:
        return _erred(pair, " ".join(str(error).split()))
    except Exception as error:  # a bug in one pair must not stop the others
        if is_out_of_memory(error):
            return _erred(pair, "out of memory; use a smaller --max-size or fewer --workers")
        return _erred(pair, f"unexpected {type(error).__name__}: {' '.join(str(error).split())}")


def _align_pair(pair: Pair, target: str, redo: bool, local: LocalFiles) -> PairOutcome:
    files = [local.path(name) for name in (pair.fixed, pair.moving)]
    chosen = local.settings(pair.settings)
    why = "asked for" if redo else stale(pair, target, files, chosen)
    if why is None:
        return outcome(pair, _load(target), "done before")
    folder = local.folder() if remote.is_remote(target) else Path(target)
    job = Job(
        files[0],
        files[1],
        folder,
        chosen,
        overwrite=True,
        names=(pair.fixed, pair.moving),
        asked=pair.settings,
        brief=pair.brief,
    )
    done = align.run(job)
    if remote.is_remote(target):
        remote.store(folder, target, last=TRANSFORM)
    return outcome(pair, done.alignment.transform, f"done again: {why}" if why else "")


def stale(pair: Pair, target: str, files: list[Path], local: Settings) -> str | None:
    """Why the results in a folder are out of date: empty without results, None if they are up to date.

    ``files`` are the local images and ``local`` the settings with local files.
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
        return f"it was made by version {known.provenance.register}"
    before, now = known.provenance.settings, asdict(pair.settings)
    others, known_others = hashes(local), known.provenance.files
    passed = (*WITHOUT_EFFECT, *(OUTPUT_ONLY if pair.brief else ()))  # no image is written of a brief one
    compared = [name for name in now if name not in passed]
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
    with scratch_folder() as place:
        return Transform.load(remote.fetch(f"{target}/{TRANSFORM}", Path(place)))


def outcome(pair: Pair, transform: Transform, note: str = "") -> PairOutcome:
    """The outcome of a finished pair."""
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
        transform.provenance.seconds.get("total"),
        note=note,
        channels=quality.compared(),
    )


def _erred(pair: Pair, error: str) -> PairOutcome:
    return PairOutcome(pair.id, pair.fixed, pair.moving, error=error)


def run(
    pairs: tuple[Pair, ...],
    output: str,
    runner: Runner,
    manifest: str | None = None,
    *,
    max_failures: int | None = None,
    tick: Callable[[PairOutcome], None] = lambda outcome: None,
    draw: bool = True,
) -> list[PairOutcome]:
    """Align all pairs by a runner, write ``summary.csv`` as they finish and, with ``draw``, ``index.html``.

    Returns the outcomes in the order of the pairs. Stops early after ``max_failures`` errors and verdicts
    ``failed``. Raises ``FileError`` where a table would replace the ``manifest`` or an image. The summary is
    written also when an exception, such as Ctrl-C, ends the loop.
    """
    _refuse_tables(output, manifest, pairs)
    found: dict[str, PairOutcome] = {}
    written = 0.0
    outcomes = runner(list(pairs))
    try:
        for one in outcomes:
            found[one.id] = one
            tick(one)
            if time.monotonic() - written > SUMMARY_INTERVAL:
                write_summary(_ordered(pairs, found), output)
                written = time.monotonic()
            if max_failures is not None and sum(x.failed for x in found.values()) >= max_failures:
                break
    finally:
        close = getattr(outcomes, "close", None)
        if close:
            close()
        write_summary(_ordered(pairs, found), output)
    if draw:
        draw_index(_ordered(pairs, found), output)
    return _ordered(pairs, found)


def _refuse_tables(output: str, manifest: str | None, pairs: tuple[Pair, ...]) -> None:
    """Raise ``FileError`` where the summary or the index would replace the manifest or an image."""
    named = [
        *([manifest] if manifest else []),
        *(file for pair in pairs for file in (pair.fixed, pair.moving)),
    ]
    if not remote.is_remote(output):
        for name in (SUMMARY, report.INDEX):
            refuse_inputs(Path(output) / name, *(Path(file) for file in named if not remote.is_remote(file)))


def write_summary(outcomes: list[PairOutcome], output: str) -> None:
    """Write ``summary.csv``, a row per finished pair, atomically."""
    names = [field.name for field in fields(PairOutcome)]
    rows = ([getattr(one, name) for name in names] for one in outcomes)
    store_text(table_text(names, rows), f"{output}/{SUMMARY}")


def draw_index(outcomes: list[PairOutcome], output: str) -> None:
    """Draw ``index.html`` of all outcomes, errors first."""
    errors = {one.id: one.error for one in outcomes if one.error}
    done = [one.id for one in outcomes if not one.error]
    if not remote.is_remote(output):
        report.draw_index([Path(output) / name for name in done], Path(output) / report.INDEX, errors)
        return
    with scratch_folder() as place:
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


def store_text(text: str, name: str) -> None:
    """Write a text to a file, atomically, or to a remote address."""
    remote.write_remote_text(text, name) if remote.is_remote(name) else write_text(name, text)


def sequential(output: str, redo: bool = False) -> Runner:
    """The runner that aligns pairs in this process, one after the other."""

    def runner(pairs: list[Pair]) -> Iterator[PairOutcome]:
        for pair in pairs:
            yield align_pair(pair, output, redo)

    return runner


def values(outcomes: list[PairOutcome]) -> dict[str, object]:
    """The counts of verdicts and errors, and the outcomes, as plain values for JSON."""
    words = [one.verdict or "error" for one in outcomes]
    counts = {name: words.count(name) for name in COUNTED}
    return {"counts": counts, "pairs": [asdict(one) for one in outcomes]}
