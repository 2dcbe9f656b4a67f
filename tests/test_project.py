"""The project's own files agree with each other."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import jinja2
import pytest
import yaml

import register

ROOT = Path(__file__).parent.parent
VERSION = register.__version__
WORKFLOWS = "extras/workflows"
NEXTFLOW = f"{WORKFLOWS}/nextflow/modules/nf-core/register"
PLACES = {
    "CITATION.cff": [r"^version: (.*)$"],
    "CHANGELOG.md": [r"^## \[(\d.*?)\] - \d{4}-\d\d-\d\d$"],
    "Dockerfile": [r"image\.version=\"(.*?)\"", r"= \"register (.*?)\"", r"register:([\d.]+)"],
    "Dockerfile.cuda": [r"image\.version=\"(.*?)\"", r"= \"register (.*?)\"", r"register:([\d.]+)-cuda"],
    "extras/containers/register.def": [
        r"image\.version (.*)$",
        r"= \"register (.*?)\"",
        r"^    register (.*?):",
    ],
    "extras/conda/meta.yaml": [r"set version = \"(.*?)\""],
    f"{WORKFLOWS}/galaxy/macros.xml": [r"name=\"@TOOL_VERSION@\">(.*?)<"],
    f"{WORKFLOWS}/cwl/register-align.cwl": [r"register:([\d.]+)\"", r"version: \[\"(.*?)\"\]"],
    f"{WORKFLOWS}/cwl/register-apply.cwl": [r"register:([\d.]+)\"", r"version: \[\"(.*?)\"\]"],
    **{
        f"{WORKFLOWS}/snakemake/{name}/environment.yaml": [r"register-cli =(.*)$"]
        for name in ("align", "apply")
    },
    **{f"{NEXTFLOW}/{name}/environment.yml": [r"register-cli=(.*)$"] for name in ("align", "apply")},
    **{f"{NEXTFLOW}/{name}/main.nf": [r"register-cli:(.*?)--"] for name in ("align", "apply")},
}
"""Where each file says the version: patterns with one group."""


@pytest.mark.parametrize("name", PLACES)
def test_the_version_is_the_same_in_every_file(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for pattern in PLACES[name]:
        found = re.findall(pattern, text, re.MULTILINE)
        assert found
        assert set(found if name != "CHANGELOG.md" else found[:1]) == {VERSION}, pattern


def test_the_conda_recipe_has_the_dependencies_and_bounds_of_the_package():
    text = (ROOT / "extras/conda/meta.yaml").read_text(encoding="utf-8")
    lines = text.split("  run:\n")[1].split("\n\n")[0].splitlines()
    recipe = dict(line.strip("- ").split(" ", 1) for line in lines)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {"torch": "pytorch", "opencv-python-headless": "py-opencv"}
    wanted = dict(re.match(r"([\w-]+)(.*)", one).groups() for one in project["dependencies"])
    expected = {names.get(name, name): bound for name, bound in wanted.items()}
    assert recipe == expected | {"python": project["requires-python"]}


def test_the_containers_copy_all_that_the_build_reads():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    needed = {"pyproject.toml", "hatch_build.py", "constraints.txt", project["project"]["readme"], "register"}
    needed |= set(project["project"]["license-files"])
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert {name.removeprefix("!") for name in ignored if name.startswith("!")} == needed
    apptainer = (ROOT / "extras/containers/register.def").read_text(encoding="utf-8")
    assert set(re.findall(r"^    (\S+) /source/", apptainer, re.MULTILINE)) == needed


def test_the_containers_hold_the_extras_that_the_documentation_says():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = (ROOT / "docs/how-to/install.md").read_text(encoding="utf-8")
    names, missing = (
        set(re.findall(r"`(\w+)`", re.search(f"{begin}(.*?)\\.(?:\\n| )", page, re.DOTALL)[1]))
        for begin in ("the extras are", "all extras but")
    )
    assert names == set(project["optional-dependencies"]) - {
        "test",
        "workflows",
        "dev",
        "peers",
        "docs",
        "bench",
    }
    for file in ("Dockerfile", "Dockerfile.cuda", "extras/containers/register.def"):
        text = (ROOT / file).read_text(encoding="utf-8")
        assert set(re.search(r"\[(export,[\w,]+)\]", text)[1].split(",")) == names - missing, file


def test_the_source_distribution_holds_what_is_tracked():
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout:
        pytest.skip("no clone")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    named = set(project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"])
    named |= {
        "pyproject.toml",
        ".gitignore",
        project["project"]["readme"],
        *project["project"]["license-files"],
    }
    left_out = {line.split("/")[0] for line in done.stdout.splitlines()} - named
    assert left_out == {".gitattributes", ".pre-commit-config.yaml"}


def test_every_version_of_the_changelog_has_a_link_target():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    heads = set(re.findall(r"^## \[(.+?)\]", text, re.MULTILINE))
    assert heads == set(re.findall(r"^\[(.+?)\]: ", text, re.MULTILINE))


def test_issue_forms_about_problems_ask_for_the_doctor():
    for name in ("bug", "alignment", "request"):
        text = (ROOT / f".github/ISSUE_TEMPLATE/{name}.yml").read_text(encoding="utf-8")
        assert "register doctor --json" in text


def test_the_conda_recipe_can_be_rendered():
    source = (ROOT / "extras/conda/meta.yaml").read_text(encoding="utf-8")
    helpers = {
        "compiler": lambda language: f"compiler_{language}",
        "stdlib": lambda language: f"stdlib_{language}",
    }
    helpers |= {"pin_subpackage": lambda name, max_pin: f"{name} {max_pin}", "PYTHON": "python"}
    text = jinja2.Template(source, undefined=jinja2.StrictUndefined).render(**helpers, environ=os.environ)
    recipe = yaml.safe_load(text)
    assert recipe["package"] == {"name": "register-cli", "version": VERSION}
    assert recipe["build"]["entry_points"] == ["register = register.__main__:run"]
    assert {"source", "requirements", "test", "about", "extra"} <= set(recipe)


def table_rows(text):
    cells = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"
    )
    return [row for row in cells if row[0] != "figure" and set(row[0]) != {"-", " "} and row[0] != "---"]


def test_the_paper_shows_the_current_figures():
    current = (ROOT / "benchmarks/current.md").read_text(encoding="utf-8")
    sections = {"real": "Real pairs with landmarks", "known warp": "Synthetic pairs with a known warp"}
    paper = table_rows((ROOT / "paper.md").read_text(encoding="utf-8"))
    assert len(paper) == 12
    for figure, value in paper:
        kind, name = figure.split(": ", 1)
        part = current.split(f"## {sections[kind]}\n")[1].split("\n## ")[0]
        assert [row[2] for row in table_rows(part) if row[0] == name] == [value], figure


def test_the_paper_has_the_form_of_joss():
    text = (ROOT / "paper.md").read_text(encoding="utf-8")
    head = yaml.safe_load(text.split("---\n")[1])
    assert {"title", "tags", "authors", "affiliations", "date", "bibliography"} <= set(head)
    assert {"# Summary", "# Statement of need", "# References"} <= set(text.splitlines())
    known = set(re.findall(r"^@\w+\{(\w+),", (ROOT / head["bibliography"]).read_text(encoding="utf-8"), re.M))
    assert set(re.findall(r"@(\w+)", text)) == known
    assert len(text.split()) < 1000
