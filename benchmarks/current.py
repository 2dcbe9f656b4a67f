"""Writes ``benchmarks/current.md``: the current figures, each with the command that prints it, from
``benchmarks/results``.

    python -m benchmarks.current            # writes the file
    python -m benchmarks.current --check    # fails if the file is not what the results give

A benchmark keeps its results with ``--save NAME``: ``accuracy-real``, ``accuracy-synthetic``, ``verdicts``,
``startup`` and ``ablation``. ``results/before`` holds those of the version that the current one is compared
with, ``results/peers.json`` those of other programs, and ``results/earlier.json`` single figures that are
older.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import results

OUTPUT = Path(__file__).parent / "current.md"
HEAD = """# Current figures

Made by `python -m benchmarks.current` from the files in `benchmarks/results`; do not edit. Every row names
the command that prints it. Older results, and what was tried on the way, are in [history](history). Machines
are shared with other programs, so that seconds vary by a factor of about 1.5: trust ratios and medians.
FOLDER holds a MANIFEST.csv and pairs with landmarks, which are not part of the repository.
"""
ABLATION = """Errors and seconds of the processor are relative to those of the whole method on the same pairs:
1.10 is a tenth more. "Worse, better" counts pairs whose error changes by more than 2 %.
"""
Rows = list[dict[str, Any]]


def accuracy(rows: Rows) -> dict[str, str]:
    """Pairs found, the median of the median errors, folds, verdicts and seconds."""
    counted = [row for row in rows if row["counted"]]
    found = [row for row in counted if row["passed"]]
    return {
        "pairs found": f"{len(found)} of {len(counted)}",
        "median of the pairs' median errors": f"{statistics.median(row['median'] for row in counted):.3f} px",
        "median of the pairs' 90th percentiles": f"{statistics.median(row['p90'] for row in counted):.3f} px",
        "folds": str(sum(row["folds"] for row in rows)),
        "verdicts of pairs found: ok, suspect, failed": _verdicts(found),
        "verdicts of pairs not found: ok, suspect, failed": _verdicts(
            [x for x in counted if not x["passed"]]
        ),
        "median seconds of an estimate": f"{statistics.median(row['seconds'] for row in rows):.1f} s",
    }


def verdicts(rows: Rows) -> dict[str, str]:
    """What runs of known outcome are called."""
    figures = {}
    for kind in dict.fromkeys(row["kind"] for row in rows):
        figures[f"{kind}: ok, suspect, failed"] = _verdicts([row for row in rows if row["kind"] == kind])
    wrong = [row for row in rows if row["rtre"] > 0.02]
    right = [row for row in rows if row["rtre"] <= 0.02]
    for name, those, verdict in (("wrong", wrong, "ok"), ("right", right, "failed")):
        count = sum(row["verdict"] == verdict for row in those)
        figures[f"{name} runs called {verdict}"] = f"{count} of {len(those)}"
    return figures


def startup(rows: Rows) -> dict[str, str]:
    """Median seconds of whole processes."""
    return {f"`{row['command']}`": f"{row['this']['median']:.2f} s" for row in rows}


def movies(rows: Rows) -> dict[str, str]:
    """Errors in good frames, wrong frames that are ok, and processor time, by level of light."""
    figures = {}
    for row in rows:
        wrong, cost = len(row["ok_and_wrong"]), f"{row['cpu_ms']:.0f} ms of the processor a frame"
        name = f"{row['level']} light, {row['program']}: median and 90th percentile of the error"
        figures[name] = f"{row['median']:.3f} px, {row['p90']:.3f} px; {wrong} ok and off by 3 px; {cost}"
    return figures


def _verdicts(rows: Rows) -> str:
    return ", ".join(str(sum(row["verdict"] == name for row in rows)) for name in ("ok", "suspect", "failed"))


SECTIONS: dict[str, tuple[str, Callable[[Rows], dict[str, str]]]] = {
    "accuracy-real": ("Real pairs with landmarks", accuracy),
    "accuracy-synthetic": ("Synthetic pairs with a known warp", accuracy),
    "verdicts": ("Verdicts", verdicts),
    "movie": ("Movies with a known motion", movies),
    "startup": ("Whole processes", startup),
}
"""The results that a section is made from, its title, and the figures of its rows by their names."""


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table in Markdown; the last column is the command."""
    lines = [(*row[:-1], f"`{row[-1]}`") for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, ("---",) * len(head), *lines))


def section(name: str) -> str:
    """A table of the figures of one kind of results, beside those of the version before."""
    title, figures = SECTIONS[name]
    kept = [results.load(f"before/{name}"), results.load(name)]
    newest = kept[1] or kept[0]
    if newest is None:
        return ""
    values = [figures(one["rows"]) if one else {} for one in kept]
    names = dict.fromkeys([*values[1], *values[0]])
    rows = [(x, values[0].get(x, ""), values[1].get(x, ""), newest["command"]) for x in names]
    notes = "".join(f"{circumstances(one)}\n\n" for one in kept if one)
    versions = [one["version"] if one else "not measured yet" for one in kept]
    return f"\n## {title}\n\n{notes}" + table(("figure", *versions, "command"), rows)


def circumstances(one: dict[str, Any]) -> str:
    """When and where results were measured, as a sentence."""
    machine = one["machine"]
    hardware = [machine["processor"], f"{machine['cores']} cores", *filter(None, [machine["gpu"]])]
    where = ", ".join([*hardware, f"Python {machine['python']}, PyTorch {machine['torch']}"])
    return f"Version {one['version']}, {one['date']}: {where}. {one['note']}".rstrip()


def ablation() -> str:
    """A table per kind of pairs: what the method loses without each of its parts."""
    kept = results.load("ablation")
    if kept is None:
        return ""
    parts = [f"\n## What each part of the method is worth\n\n{circumstances(kept)}\n\n{ABLATION}"]
    head = (
        "without",
        "found (whole method)",
        "wrong, but ok",
        "right, but not",
        "error",
        "of pairs found",
        "worse, better",
        "CPU s",
        "command",
    )
    for kind, rows in kept["rows"].items():
        parts.append(f"\n{kind}:\n\n" + table(head, [_switch(one, kept["command"]) for one in rows]))
    return "".join(parts)


def _switch(one: dict[str, Any], command: str) -> tuple[str, ...]:
    """A row of the table of switches."""
    found = f"{one['found']} ({one['found_whole']}) of {one['pairs']}"
    counts = found, str(one["wrong_ok"]), str(one["right_not_ok"])
    errors = f"{one['error']:.3f}", f"{one['error_found']:.3f}", f"{one['worse']}, {one['better']}"
    return (one["without"], *counts, *errors, f"{one['seconds']:.2f}", command)


def peers() -> str:
    """The table of other programs, as it was last measured."""
    kept = results.load("peers")
    if kept is None:
        return ""
    rows = [(row["pair"], *row["values"], kept["command"]) for row in kept["rows"]]
    title = f"\n## Other programs on the same pairs\n\n{circumstances(kept)}\n\n"
    return title + table(("pair", *kept["columns"], "command"), rows)


def earlier() -> str:
    """Single figures that are older."""
    kept = results.load("earlier")
    if kept is None:
        return ""
    rows = [(row["figure"], row["value"], row["date"], row["command"]) for row in kept["rows"]]
    title = f"\n## Measured before\n\n{kept['note']}\n\n"
    return title + table(("figure", "value", "measured", "command"), rows)


def text() -> str:
    """The complete file."""
    return HEAD + "".join(map(section, SECTIONS)) + ablation() + peers() + earlier()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    if parser.parse_args().check:
        if OUTPUT.read_text(encoding="utf-8") != text():
            sys.exit("benchmarks/current.md is out of date: run python -m benchmarks.current")
    else:
        OUTPUT.write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
