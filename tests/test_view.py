"""``register view`` and ``align --view`` open the right page."""

import shutil
import webbrowser
from pathlib import Path

import pytest
from conftest import TISSUE

from register import settings
from register.errors import FileError
from register.workflows import view
from register.workflows.align import Job, run


@pytest.fixture(scope="module")
def aligned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("view") / "pair"
    run(Job(*map(Path, TISSUE), folder, settings.check(preset="fast", model="rigid", report=False)))
    return folder


@pytest.fixture
def opened(monkeypatch):
    addresses = []
    monkeypatch.setattr(webbrowser, "open", lambda address: addresses.append(address) or True)
    return addresses


def test_view_draws_a_missing_report_and_opens_it(aligned, program, opened, tmp_path):
    folder = shutil.copytree(aligned, tmp_path / "pair")
    assert not (folder / "report.html").exists()
    done = program("view", folder)
    assert done.returncode == 0, done.stderr
    assert opened == [(folder / "report.html").as_uri()]
    assert program("view", folder / "transform.json").returncode == 0
    assert opened[0] == opened[1]


def test_view_of_many_opens_the_index(aligned, opened, tmp_path):
    for name in ("one", "two"):
        shutil.copytree(aligned, tmp_path / name)
    assert view.show(tmp_path) == tmp_path / "index.html"
    assert opened == [(tmp_path / "index.html").as_uri()]


def test_what_cannot_be_viewed_is_an_error_in_one_line(aligned, program, tmp_path, monkeypatch):
    with pytest.raises(FileError, match="is no result"):
        view.page_of(aligned / "overlay.png")
    with pytest.raises(FileError, match="does not exist"):
        view.page_of(tmp_path / "nothing")
    with pytest.raises(FileError, match="holds no transform"):
        view.page_of(tmp_path)
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    folder = shutil.copytree(aligned, tmp_path / "pair")
    done = program("view", folder)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "report.html yourself" in done.stderr


def test_align_can_open_its_report(program, opened, tmp_path):
    done = program(
        "align", *TISSUE, "-o", tmp_path / "o", "--preset", "fast", "--model", "rigid", "--view", "-q"
    )
    assert done.returncode == 0, done.stderr
    assert opened == [(tmp_path / "o" / "report.html").as_uri()]
    refused = program("align", *TISSUE, "-o", tmp_path / "p", "--view", "--no-report")
    assert refused.returncode == 2
    assert not (tmp_path / "p").exists()
