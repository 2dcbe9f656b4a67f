"""Workflow managers run the program: the same bytes as the command line, and the version each asks for."""

import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import register

ROOT = Path(__file__).parent.parent
WORKFLOWS = ROOT / "extras" / "workflows"
MODULES = WORKFLOWS / "nextflow" / "modules" / "nf-core" / "register"
DATE, CREATED = "1700000000", "2023-11-14T22:13:20+00:00"
RESULTS = ("aligned.png", "overlay.png", "report.html", "transform.json")
OPTIONS = ["--preset", "fast", "--format", "png", "--threads", "1"]


def tool(name):
    """The program of a workflow manager beside this Python; the test is skipped where it is missing."""
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        pytest.skip(f"{name} is missing: pip install -c constraints.txt -e '.[workflows]'")
    return str(path)


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """Runs a command in a folder that holds the pair, with ``register`` on the path; it must succeed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "register"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m register "$@"\n')
    program.chmod(0o755)
    environment = os.environ | {"SOURCE_DATE_EPOCH": DATE, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}

    def run(*command, **more):
        done = subprocess.run(
            command, env=environment | more, capture_output=True, text=True, check=False
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def expected(tmp_path_factory, texture):
    """A folder with a pair, and the results of the command line in ``out``."""
    folder = tmp_path_factory.mktemp("pair")
    grey = (texture * 255).astype(np.uint8)
    Image.fromarray(grey[:200, :230]).save(folder / "a_fixed.png")
    Image.fromarray(grey[4:204, 7:237]).save(folder / "a_moving.png")
    command = [
        sys.executable,
        "-m",
        "register",
        "align",
        "a_fixed.png",
        "a_moving.png",
        "-o",
        "out",
        *OPTIONS,
    ]
    environment = os.environ | {"SOURCE_DATE_EPOCH": DATE, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return folder


def copy_pair(expected, folder):
    for name in ("a_fixed.png", "a_moving.png"):
        shutil.copy(expected / name, folder)


@pytest.mark.slow
def test_with_a_given_date_every_byte_is_the_same_from_run_to_run(expected, tmp_path, shell):
    copy_pair(expected, tmp_path)
    shell("register", "align", "a_fixed.png", "a_moving.png", "-o", "out", *OPTIONS)
    for name in RESULTS:
        assert (tmp_path / "out" / name).read_bytes() == (expected / "out" / name).read_bytes()
    provenance = json.loads((tmp_path / "out" / "transform.json").read_text())["provenance"]
    assert (provenance["created"], provenance["seconds"]) == (CREATED, {})


def test_a_date_that_is_no_number_is_refused(tmp_path, program, monkeypatch, expected):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    done = program("align", expected / "a_fixed.png", expected / "a_moving.png", "-o", tmp_path / "o")
    message = "error: SOURCE_DATE_EPOCH is 'yesterday': it must be seconds since 1970, or unset\n"
    assert (done.returncode, done.stderr) == (1, message)
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_snakemake_writes_the_bytes_of_the_command_line(expected, tmp_path, shell):
    snakemake = tool("snakemake")
    copy_pair(expected, tmp_path)
    example = WORKFLOWS / "snakemake" / "example" / "Snakefile"
    shell(snakemake, "-s", str(example), "--cores", "1")
    names = ("a.png", "a_overlay.png", "a.html", "a.json")
    for name, result in zip(names, RESULTS, strict=True):
        assert (tmp_path / "aligned" / name).read_bytes() == (expected / "out" / result).read_bytes()
    shell("register", "apply", expected / "out" / "transform.json", "a_moving.png", "-o", "by_hand.tif",
          "--interpolation", "nearest")  # fmt: skip
    assert (tmp_path / "applied" / "a.tif").read_bytes() == (tmp_path / "by_hand.tif").read_bytes()
    assert sorted(path.name for path in (tmp_path / "aligned").iterdir()) == sorted(names)


@pytest.mark.slow
def test_cwl_writes_the_bytes_of_the_command_line(expected, tmp_path, shell):
    cwltool = tool("cwltool")
    copy_pair(expected, tmp_path)
    order = {"fixed": "a_fixed.png", "moving": "a_moving.png"}
    job = {name: {"class": "File", "path": path} for name, path in order.items()}
    job |= {"preset": "fast", "date": DATE, "extra": ["--format", "png"]}
    (tmp_path / "job.json").write_text(json.dumps(job))
    command = [cwltool, "--no-container", "--quiet", "--outdir"]
    shell(*command, "out", str(WORKFLOWS / "cwl" / "register-align.cwl"), "job.json")
    for name in RESULTS:
        assert (tmp_path / "out" / name).read_bytes() == (expected / "out" / name).read_bytes()
    shell(*command, "applied", str(WORKFLOWS / "cwl" / "register-apply.cwl"),
          "--transform", "out/transform.json", "--image", "a_moving.png", "--name", "b.png")  # fmt: skip
    assert (tmp_path / "applied" / "b.png").read_bytes() == (tmp_path / "out" / "aligned.png").read_bytes()


def nextflow_script(module, **values):
    """What the ``script`` block of a module gives to bash, with the values of its variables."""
    text = (MODULES / module / "main.nf").read_text()
    block = re.search(r'\n    script:\n.*?"""\n(.*?)"""', text, re.DOTALL)[1].replace("\\\\", "\\")
    return re.sub(r"\$\{([\w.]+)\}", lambda found: values[found[1].replace("task.", "")], block)


@pytest.mark.slow
def test_the_scripts_of_the_nextflow_modules_write_the_bytes_of_the_command_line(expected, tmp_path, shell):
    copy_pair(expected, tmp_path)
    options = " ".join(OPTIONS[:4])
    script = nextflow_script(
        "align", args=options, cpus="1", prefix="a", fixed="a_fixed.png", moving="a_moving.png", kept=""
    )
    shell("bash", "-ue", "-c", script)
    for name in RESULTS:
        assert (tmp_path / "a" / name).read_bytes() == (expected / "out" / name).read_bytes()
    more = {"transform": "a/transform.json", "image": "a_moving.png", "suffix": "png"}
    shell("bash", "-ue", "-c", nextflow_script("apply", args="", prefix="b", **more))
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "a" / "aligned.png").read_bytes()


class Value(str):
    """A parameter of a Galaxy tool: its text, and the ending of a data set."""

    ext = "png"


def galaxy_command(name, **values):
    """The command of a Galaxy tool with the values of its parameters, rendered as Galaxy does."""
    template = pytest.importorskip("Cheetah.Template", reason="needs CT3: pip install '.[workflows]'")
    tree = ET.parse(WORKFLOWS / "galaxy" / name).getroot()
    defaults = {}
    for one in tree.find("inputs"):
        named = one.get("name") or one.get("argument").removeprefix("--").replace("-", "_")
        chosen = one.find("option[@selected='true']")
        defaults[named] = Value(one.get("falsevalue") or "" if chosen is None else chosen.get("value"))
    text = tree.findtext("command")
    return str(template.Template(text, searchList=[defaults | {k: Value(v) for k, v in values.items()}]))


@pytest.mark.slow
@pytest.mark.skipif(find_spec("Cheetah") is None, reason="needs CT3: pip install '.[workflows]'")
@pytest.mark.filterwarnings("default::DeprecationWarning")
def test_the_galaxy_tools_write_the_bytes_of_the_command_line(expected, tmp_path, shell):
    given = {"fixed": str(expected / "a_fixed.png"), "moving": str(expected / "a_moving.png")}
    command = galaxy_command("register_align.xml", **given, preset="fast", format="png")
    shell("bash", "-c", " ".join(command.split()), GALAXY_SLOTS="1")
    assert (tmp_path / "aligned").read_bytes() == (expected / "out" / "aligned.png").read_bytes()
    transform = (tmp_path / "results" / "transform.json").read_bytes()
    renamed = transform.replace(b'"fixed.png"', b'"a_fixed.png"').replace(b'"moving.png"', b'"a_moving.png"')
    assert renamed == (expected / "out" / "transform.json").read_bytes()
    more = {"transform": str(tmp_path / "results" / "transform.json"), "format": "png"}
    command = galaxy_command("register_apply.xml", **more, image=given["moving"])
    shell("bash", "-c", " ".join(command.split()))
    assert (tmp_path / "resampled").read_bytes() == (tmp_path / "aligned").read_bytes()


@pytest.mark.slow
def test_each_manager_is_told_the_version_as_it_asks(shell):
    macros = ET.parse(WORKFLOWS / "galaxy" / "macros.xml").getroot()
    asked = macros.findtext(".//version_command")
    assert shell("bash", "-c", asked).strip() == f"register {register.__version__}"
    for module in ("align", "apply"):
        text = (MODULES / module / "main.nf").read_text()
        command = re.search(r'eval\("(.*?)"\)', text)[1]
        assert shell("bash", "-c", command).strip() == register.__version__
