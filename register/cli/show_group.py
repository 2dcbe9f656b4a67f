"""The result and the plan of a set, as tables and as plain values for ``--json``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from register.cli.output import coloured, print_columns, print_rows
from register.cli.show import WORDS, verdict_colour

if TYPE_CHECKING:
    from register.workflows.sets.files import Extras
    from register.workflows.sets.solve import Group, Plan


def result(made: Group, output: Path, extras: Extras) -> None:
    """Print the verdicts, the images and links that are not ok, and the files."""
    counts = Counter(str(member.verdict) for member in made.members)
    rows = [("images", ", ".join(f"{counts[word]} {word}" for word in WORDS if counts[word]))]
    for number, (frame, reference) in enumerate(zip(made.frames, made.references, strict=True), start=1):
        name = "mean" if reference is None else made.members[reference].image.id
        title = "reference" if len(made.frames) == 1 else f"reference {number}"
        rows.append((title, f"{name}, {frame.width} × {frame.height}"))
    for member in made.members:
        if member.verdict != "ok":
            word = coloured(member.verdict, verdict_colour(member.verdict))
            rows.append((member.image.id, f"{word} {'; '.join(member.reasons)}"))
    links = Counter(fit.result.verdict for fit in made.links)
    rows.append(("links", ", ".join(f"{links[word]} {word}" for word in WORDS if links[word])))
    ids = [member.image.id for member in made.members]
    for fit in made.links:
        if fit.kept is not None and fit.kept < 0.5:
            name = f"{ids[fit.result.fixed]}--{ids[fit.result.moving]}"
            rows.append(
                ("", f"{name} disagrees with the others by {fit.residual or 0:.1f} px and has no weight")
            )
    rows += [("note", note) for note in made.notes]
    files = ["group.json", "summary.csv", "index.html"]
    rows += [("", f"{output}/{name}") for name in files]
    rows += [("", str(path)) for path in (extras.merge, extras.volume) if path and made.first]
    print_rows(rows)


def plan(planned: Plan) -> None:
    """Print the links that would be aligned and what they cost."""
    print_columns([("fixed", "moving"), *planned.links])
    print_rows([(name, str(value)) for name, value in plan_values(planned).items() if name != "links"])


def plan_values(planned: Plan) -> dict[str, object]:
    """The plan as plain values."""
    return {
        "links": [list(link) for link in planned.links],
        "images": planned.images,
        "unreadable": list(planned.unreadable),
        "workers": planned.workers,
        "seconds_about": planned.seconds,
        "memory_megabytes_per_worker": round(planned.memory / 1e6),
    }
