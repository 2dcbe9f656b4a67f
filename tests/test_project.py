"""The project's own files agree with each other."""

import re
from pathlib import Path

import pytest

import register

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("CITATION.cff", f"version: {register.__version__}"),
        ("CHANGELOG.md", rf"## \[{re.escape(register.__version__)}\] - \d{{4}}-\d\d-\d\d"),
    ],
)
def test_the_version_is_the_same_in_every_file(name, line):
    assert re.search(f"^{line}$", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)


def test_every_version_of_the_changelog_has_a_link_target():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    heads = set(re.findall(r"^## \[(.+?)\]", text, re.MULTILINE))
    assert heads == set(re.findall(r"^\[(.+?)\]: ", text, re.MULTILINE))


def test_issue_forms_about_problems_ask_for_the_doctor():
    for name in ("bug", "alignment", "request"):
        text = (ROOT / f".github/ISSUE_TEMPLATE/{name}.yml").read_text(encoding="utf-8")
        assert "register doctor --json" in text
