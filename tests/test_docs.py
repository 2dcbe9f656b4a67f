"""The documentation: examples run and print what they show, the reference is complete, no link is broken."""

import io
import json
import os
import re
import subprocess
import sys
import tomllib
from contextlib import redirect_stdout
from dataclasses import replace
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import pytest
import torch

import register
from register.engine.ambiguity import outcome
from register.engine.ambiguity.rivals import Rival
from register.engine.points import judge
from register.engine.quality import verdict
from register.engine.quality.pieces import Missing
from register.registries import MODELS
from register.settings import Settings
from register.transforms.quality import Quality
from tests.test_architecture import ORDER

ROOT = Path(__file__).parent.parent
TUTORIALS = [path for path in sorted((ROOT / "docs" / "tutorials").glob("*.md")) if path.stem != "index"]
FENCE = re.compile(
    r"(?:<!-- (?P<note>[^>]*) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


class Block(NamedTuple):
    """A fenced block, and the comment above it: ``not run``, ``output`` or ``exit code 3``."""

    language: str
    text: str
    note: str


def blocks(path):
    """The fenced blocks of a page, in order."""
    found = FENCE.finditer(path.read_text(encoding="utf-8"))
    return [Block(one["language"], one["text"], one["note"] or "") for one in found]


class Session:
    """Runs the blocks of one page in one folder, as a reader would."""

    def __init__(self, folder):
        self.folder, self.names, self.output = folder, {"__name__": "__main__"}, ""
        (folder / "sample_images").symlink_to(ROOT / "sample_images")
        commands = folder / ".bin"
        commands.mkdir()
        program = commands / "register"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m register "$@"\n')
        program.chmod(0o755)
        path = f"{commands}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        pythonpath = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        self.environment = os.environ | {"PATH": path, "PYTHONPATH": pythonpath, "COLUMNS": "120"}

    @staticmethod
    def file_name(block):
        found = re.match(r"# ([\w.]+\.(?:py|toml))\n", block.text)
        return found and found[1]

    def run(self, block):
        """Run a block, or save it: its first line may be a comment with the name of a file."""
        name = self.file_name(block)
        if name:
            (self.folder / name).write_text(block.text)
        elif block.note == "output":
            self.check_output(block.text)
        elif block.language == "sh" and block.note != "not run":
            self.run_shell(block)
        elif block.language == "python" and block.note != "not run":
            self.run_python(block.text)

    def run_shell(self, block):
        done = subprocess.run(
            ["bash", "-e", "-c", block.text],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        expected = int(block.note.removeprefix("exit code ")) if block.note.startswith("exit code") else 0
        assert done.returncode == expected, f"{block.text}\n{done.stdout}{done.stderr}"
        self.output = done.stdout + done.stderr

    def run_python(self, text):
        """Run Python in the name space of the page."""
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile(text, "<docs>", "exec"), self.names)
        self.output = printed.getvalue()

    def check_output(self, shown):
        """Every line that the page shows was printed; ``…`` stands for anything."""
        printed = " ".join(self.output.split())
        for line in filter(str.strip, shown.splitlines()):
            pattern = ".*?".join(re.escape(" ".join(part.split())) for part in line.split("…"))
            assert re.search(pattern, printed), f"{line!r} is not in\n{self.output}"


CONTRIBUTING = ROOT / "CONTRIBUTING.md"
MOST_LINES = 20
BEFORE_COMMANDS = ("--help", "--version")
KINDS = {"register.similarities", "register.readers", "register.exports", "register.starts"}


def install(folder):
    """What ``pip install -e`` does with the package in a folder, whose metadata are needed."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    metadata = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir()
    head = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (metadata / "METADATA").write_text(head)
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in points.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return project["entry-points"]


@pytest.mark.slow
def test_the_plug_ins_of_contributing_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session = Session(tmp_path)
    session.environment["PYTHONPATH"] += f"{os.pathsep}{tmp_path}"
    shown = blocks(CONTRIBUTING)
    files = [block for block in shown if session.file_name(block)]
    for block in files:
        session.run(block)
    assert set(install(tmp_path)) == KINDS
    try:
        for block in shown[shown.index(files[0]) :]:
            session.run(block)
    finally:
        if "stretch" in MODELS.names():
            MODELS.remove("stretch")


def test_the_plug_ins_of_contributing_are_short():
    examples = [block.text for block in blocks(CONTRIBUTING) if block.language == "python"]
    assert len(examples) == 6
    assert max(len([line for line in text.splitlines() if line.strip()]) for text in examples) < MOST_LINES


QUICK = "first-pair", "python"
"""Tutorials of a few seconds."""


@pytest.mark.parametrize(
    "page",
    [pytest.param(x, id=x.stem, marks=[] if x.stem in QUICK else pytest.mark.slow) for x in TUTORIALS],
)
def test_a_tutorial_works_as_it_is_written(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session = Session(tmp_path)
    ran = [block for block in blocks(page) if block.language in ("sh", "python") and block.note != "not run"]
    assert ran, f"{page.name} shows nothing that can be run"
    for block in blocks(page):
        session.run(block)


def test_the_file_format_can_be_evaluated_as_its_page_says():
    page = ROOT / "docs" / "reference" / "transform-format.md"
    names = {}
    exec(next(block.text for block in blocks(page) if block.language == "python"), names)
    path = ROOT / "tests" / "golden" / "transform-1.json"
    file = json.loads(path.read_text())
    x, y = 0.3 * file["fixed"]["width"], 0.6 * file["fixed"]["height"]
    expected = register.Transform.load(path).map(torch.tensor([[x, y]], dtype=torch.float64))
    assert names["transform"](file, x, y) == pytest.approx(expected[0].tolist(), abs=1e-9)


def test_commands_in_the_docs_have_only_options_that_exist():
    help_pages, unknown = reference("command-line").split("## register "), []
    known = {page.split()[0]: page for page in help_pages[1:]}
    for page in [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", CONTRIBUTING]:
        shell = "".join(block.text for block in blocks(page) if block.language == "sh")
        for line in re.findall(r"^(?:.*&& \S*)?register .*", shell, flags=re.MULTILINE):
            words = line[line.index("register ") :].partition(" #")[0].split()
            options = [word for word in words if word.startswith("--")]
            missing = [option for option in options if f"`{option}" not in known[words[1]]]
            unknown += [(page.name, words[1], option) for option in missing if option not in BEFORE_COMMANDS]
    assert not unknown


PATCHES = ["weak"] * 18 + ["capped"] + ["unrecognised"] * 3


def test_every_reason_of_a_verdict_is_explained():
    figures = Quality(
        probability_wrong=0.9, recognised=0.58, recognised_sigma=1.0, overlap=0.05, det_global=20.0,
        back_and_forth=50.0,
    )  # fmt: skip
    unclear = replace(figures, recognised=None, above_chance=1.0, back_and_forth=None)
    smaller = replace(figures, overlap=0.001)
    reasons = {
        reason
        for one, most in ((figures, 1.0), (unclear, 1.0), (smaller, 0.02))
        for reason in verdict.verdict(one, PATCHES, verdict.Expected(1000.0, most))[1]
    }
    for shift, rotation, slides in (
        ((60.0, 10.0), 0.0, False),
        ((60.0, 10.0), 0.0, True),
        ((0.0, 0.0), 90.0, False),
    ):
        reasons.add(Rival(torch.eye(2, 3), shift, rotation, 60.0, slides).reason())
    reasons.add(outcome.BEYOND)
    reasons.add(Missing(level=None, where=torch.zeros(1), count=1, among=4, share=0.25).reason)
    reasons |= {*judge.doubts(20, 90, 30, 50.0, 700.0), judge.by_chance(3, 90)}
    page = (ROOT / "docs" / "how-to" / "suspect.md").read_text(encoding="utf-8")
    explained = re.findall(r"^\*\*(.*)\*\*$", page, flags=re.MULTILINE)
    plain = [re.sub(r"[\d.]+(%|st|nd|rd|th)?", "…", reason) for reason in reasons]
    assert len(plain) == 19  # and what stays at its place, which engine.still says
    assert len(explained) == 20
    assert [r for r in plain if not any(r.startswith(re.sub("50th", "…", e)) for e in explained)] == []


@pytest.mark.slow
def test_the_figures_can_be_drawn(tmp_path, monkeypatch):
    figures = pytest.importorskip("docs.figures")
    monkeypatch.setattr(figures, "OUT", tmp_path)
    figures.main()
    assert {path.name for path in tmp_path.iterdir()} == {"basis.png", "structure.png", "field.png"}


class Page(HTMLParser):
    """The links, the anchors and what a built page loads."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors, self.loaded = [], set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if values.get("id"):
            self.anchors.add(values["id"])
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if tag in ("script", "img", "iframe") and values.get("src"):
            self.loaded.append(values["src"])
        if tag == "link" and values.get("rel") != "canonical" and values.get("href"):
            self.loaded.append(values["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if find_spec("mkdocs") is None or find_spec("mkdocstrings") is None:
        pytest.skip("the site needs mkdocs: pip install -c constraints.txt -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}


def test_no_link_is_broken(site, pages):
    broken = []
    for path, page in pages.items():
        for link in page.links:
            if re.match(r"[a-z]+:", link):
                continue
            target, _, anchor = unquote(link).partition("#")
            file = (path.parent / target).resolve() if target else path
            file = file / "index.html" if file.is_dir() else file
            if not file.exists() or (anchor and file in pages and anchor not in pages[file].anchors):
                broken.append((path.relative_to(site).as_posix(), link))
    assert not broken


def test_pages_load_nothing_from_other_servers(pages):
    away = {source for page in pages.values() for source in page.loaded if re.match(r"(https?:)?//", source)}
    assert not away


def test_formulas_are_drawn_without_a_library(site):
    text = (site / "explanation" / "method.html").read_text(encoding="utf-8")
    assert "<math" in text
    assert "\\(" not in text
    assert "\\[" not in text


def reference(name):
    generate = pytest.importorskip("docs.generate")
    return generate.pages()[f"reference/{name}.md"]


def test_every_option_is_on_the_reference_page(program):
    sections = re.split(r"^## register ", reference("command-line"), flags=re.MULTILINE)[1:]
    text = {section.split()[0]: section for section in sections}
    listed = re.findall(r"^  (\w+)  ", program("--help").stdout, flags=re.MULTILINE)
    assert set(listed) == set(text)
    for command in listed:
        options = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", program(command, "--help").stdout))
        missing = {option for option in options - {"--help"} if option not in text[command]}
        assert not missing, f"{command}: {missing}"


def test_every_setting_is_on_the_reference_page():
    page = reference("settings")
    assert [name for name in Settings.__dataclass_fields__ if f"| `{name}` |" not in page] == []


def test_every_public_name_is_on_the_reference_page(site):
    text = (site / "reference" / "python.html").read_text(encoding="utf-8")
    assert [name for name in register.__all__ if f"register.{name}" not in text] == []
    anchors = Page(site / "reference" / "python.html").anchors
    public = [getattr(register, name) for name in register.__all__ if not name.startswith("__")]
    assert [value for value in public if f"{value.__module__}.{value.__qualname__}" not in anchors] == []


def test_the_architecture_page_names_every_package():
    text = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    table = text.split("## One alignment")[0]
    assert [name for name in ORDER if not name.startswith("__") and f"`{name}`" not in table] == []
