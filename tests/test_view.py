"""``register view`` and ``align --view`` open the right page."""

import shutil
import sys
import webbrowser
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import TISSUE

from register import settings
from register.cli import view as command
from register.errors import FileError
from register.workflows import view
from register.workflows.align import Job, run


@pytest.fixture(scope="module")
def aligned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("view") / "pair"
    run(Job(*map(Path, TISSUE), folder, settings.check(preset="fast", model="rigid", report=False)))
    return folder


@pytest.fixture(autouse=True)
def without_napari(monkeypatch):
    monkeypatch.setattr(command, "has_napari", lambda: False)


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


def test_a_result_opens_in_napari_where_it_is_installed(aligned, program, opened, monkeypatch, tmp_path):
    shown = []
    monkeypatch.setitem(sys.modules, "register.napari.view", SimpleNamespace(run=shown.append))
    monkeypatch.setattr(command, "has_napari", lambda: True)
    assert program("view", aligned).returncode == 0
    assert program("view", aligned / "transform.json").returncode == 0
    assert (shown, opened) == ([aligned, aligned / "transform.json"], [])
    assert program("view", aligned, "--browser").returncode == 0
    assert (len(shown), len(opened)) == (2, 1)
    for name in ("one", "two"):
        shutil.copytree(aligned, tmp_path / name)
    assert program("view", tmp_path).returncode == 0  # the index of many
    assert (len(shown), len(opened)) == (2, 2)


def test_a_result_whose_images_are_gone_opens_in_the_browser(aligned, program, opened, monkeypatch):
    def gone(target):
        raise FileError("a.png", "does not exist")

    monkeypatch.setitem(sys.modules, "register.napari.view", SimpleNamespace(run=gone))
    monkeypatch.setattr(command, "has_napari", lambda: True)
    done = program("view", aligned)
    assert done.returncode == 0
    assert "not opened in napari: a.png: does not exist" in done.stderr
    assert len(opened) == 1


def test_without_a_screen_there_is_no_napari(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not command.has_napari()
