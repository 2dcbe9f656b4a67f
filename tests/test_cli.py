import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import tifffile
import torch
from conftest import SAMPLES, TISSUE, run
from PIL import Image as Pillow

import register
from register.cli import startup
from register.cli.main import COMMANDS, function_of
from register.geometry.patch_grid import PatchGrid
from register.io.points.open import read_points
from register.transforms.frame import Frame
from register.workflows import doctor

FUNDUS = [str(SAMPLES / "fundus_fixed.tif"), str(SAMPLES / "fundus_moving.tif")]


def tre(folder, name):
    transform = register.Transform.load(folder / "transform.json")
    fixed, moving = (read_points(SAMPLES / f"{name}_landmarks_{kind}.csv") for kind in ("fixed", "moving"))
    return float(np.median(np.linalg.norm(transform.map(fixed) - moving, axis=1)))


@pytest.fixture(scope="module")
def tissue(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "tissue"
    return folder, run("align", *TISSUE, "-o", folder, "--json")


def test_the_colour_sample_is_aligned(tissue):
    folder, done = tissue
    assert done.returncode == 0, done.stderr
    assert tre(folder, "tissue") < 0.15
    assert {p.name for p in folder.iterdir()} == {
        "aligned.png",
        "transform.json",
        "overlay.png",
        "report.html",
    }
    aligned, fixed = (register.read_image(path).pixels for path in (folder / "aligned.png", TISSUE[0]))
    assert aligned.dtype == np.uint8
    assert aligned.shape == fixed.shape


def test_json_is_one_object_and_nothing_else(tissue):
    folder, done = tissue
    values = json.loads(done.stdout)
    assert values["verdict"] == "ok"
    assert done.stderr == ""
    assert values["files"]["transform"] == str(folder / "transform.json")


def test_the_transform_file_records_its_provenance(tissue):
    content = json.loads((tissue[0] / "transform.json").read_text())
    assert (
        content["fixed"]["sha256"] == hashlib.sha256((SAMPLES / "tissue_fixed.png").read_bytes()).hexdigest()
    )
    provenance = content["provenance"]
    assert {"register", "torch", "device", "seed", "settings", "seconds", "created"} <= set(provenance)
    assert provenance["settings"]["model"] == "local"
    assert provenance["device"] == (
        "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    )


def test_sixteen_bit_grey_keeps_type_and_pixel_size(tmp_path, program):
    done = program("align", *FUNDUS, "-o", tmp_path / "o", "--no-report")
    assert done.returncode == 0, done.stderr
    assert "verdict" in done.stdout
    assert "\x1b[" not in done.stdout
    assert tre(tmp_path / "o", "fundus") < 0.2
    image = register.read_image(tmp_path / "o" / "aligned.tif")
    assert image.pixels.dtype == np.uint16
    assert image.pixel_size.xy == pytest.approx((6.5, 6.5), rel=1e-4)


def test_results_are_overwritten_only_with_the_option(tissue, program):
    folder, _ = tissue
    before = (folder / "transform.json").read_bytes()
    done = program("align", *TISSUE, "-o", folder)
    assert done.returncode == 1
    assert "--overwrite" in done.stderr
    assert done.stderr.count("\n") == 1
    assert (folder / "transform.json").read_bytes() == before


def test_dry_run_writes_nothing(tmp_path, program):
    done = program("align", *TISSUE, "-o", tmp_path / "o", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["fixed_size"] == [500, 440]
    assert not (tmp_path / "o").exists()


def test_a_start_from_landmarks_and_from_a_transform(tmp_path, tissue, program):
    pair = f"{SAMPLES / 'tissue_landmarks_fixed.csv'},{SAMPLES / 'tissue_landmarks_moving.csv'}"
    for name, init in (("csv", pair), ("json", tissue[0] / "transform.json")):
        done = program(
            "align", *TISSUE, "-o", tmp_path / name, "--init", init, "--preset", "fast", "--no-report", "-q"
        )
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert tre(tmp_path / name, "tissue") < 0.3


@pytest.mark.slow
def test_unrelated_images_exit_with_3(tmp_path, program):
    from scipy.ndimage import gaussian_filter

    for name, seed in (("a", 1), ("b", 2)):
        noise = gaussian_filter(np.random.default_rng(seed).normal(size=(300, 310)), 3)
        tifffile.imwrite(tmp_path / f"{name}.tif", noise.astype(np.float32))
    done = program(
        "align",
        tmp_path / "a.tif",
        tmp_path / "b.tif",
        "-o",
        tmp_path / "o",
        "--preset",
        "fast",
        "--no-report",
    )
    assert done.returncode == 3
    assert "failed" in done.stdout
    assert (tmp_path / "o" / "transform.json").exists()


def bad_calls(folder):
    tifffile.imwrite(folder / "constant.tif", np.full((100, 100), 5, np.uint8))
    tifffile.imwrite(folder / "nan.tif", np.full((100, 100), np.nan, np.float32))
    Pillow.fromarray(np.zeros((1, 1), np.uint8)).save(folder / "one.png")
    (folder / "text.png").write_text("hello")
    fixed = TISSUE[0]
    return [
        (1, "does not exist", [folder / "none.png", fixed]),
        (1, "is a folder", [folder, fixed]),
        (1, "not an image", [folder / "text.png", fixed]),
        (1, "constant", [fixed, folder / "constant.tif"]),
        (1, "no valid pixels", [folder / "nan.tif", fixed]),
        (1, "at least 8 × 8", [fixed, folder / "one.png"]),
        (1, "no file of that name", [*TISSUE, "--init", "nothing.json"]),
        (2, "--patch-size", [*TISSUE, "--patch-size", "1"]),
        (2, "--metric", [*TISSUE, "--metric", "magic"]),
        (2, "device", [*TISSUE, "--device", "tpu"]),
        (2, "MOVING", [fixed]),
    ]


def test_bad_input_is_a_one_line_error_and_writes_nothing(tmp_path, program):
    for number, (code, what, args) in enumerate(bad_calls(tmp_path)):
        done = program("align", *args, "-o", tmp_path / f"out{number}")
        assert done.returncode == code, (args, done.stderr)
        assert what in done.stderr, (args, done.stderr)
        assert "Traceback" not in done.stderr
        if code == 1:
            assert done.stderr.startswith("error: ")
            assert done.stderr.count("\n") == 1, done.stderr
        assert not (tmp_path / f"out{number}").exists()


STOPPED = """
import os, sys
from register.engine.quality import assess
from register.cli.main import main
judge = assess.judge
assess.judge = lambda *args, **options: (os.kill(os.getpid(), {signal}), judge(*args, **options))[1]
sys.argv = ["register", "align", *{pair}, "-o", {out}]
main()
"""


@pytest.mark.parametrize(
    ("stop", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGKILL, -9, marks=pytest.mark.slow)]
)
def test_a_killed_run_leaves_no_incomplete_file_and_an_interrupted_one_prints_one_line(tmp_path, stop, code):
    program = STOPPED.format(signal=int(stop), pair=[str(x) for x in FUNDUS], out=repr(str(tmp_path / "out")))
    heed = partial(
        signal.signal, signal.SIGINT, signal.SIG_DFL
    )  # which a shell lets its background jobs ignore
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, preexec_fn=heed
    )
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert not any(
        path.suffix != ".part" and path.stat().st_size == 0 for path in (tmp_path / "out").glob("*")
    )
    if stop == signal.SIGINT:
        assert "interrupted" in done.stderr


UNLOADED = """
import sys
from register.__main__ import run
class Interrupting:
    def find_spec(self, name, path, target=None):
        if name == "typer":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupting())
run()
"""


def test_one_line_when_interrupted_before_the_program_is_loaded():
    done = subprocess.run([sys.executable, "-c", UNLOADED], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "interrupted; nothing was written\n")


LOADED = """
import json, sys
from register.cli.main import main
sys.argv = ["register", *{arguments}]
try:
    main()
except SystemExit as end:
    print()
    print(json.dumps([end.code, sorted(name for name in sys.modules if "." not in name)]))
"""


def loaded(*arguments):
    """Top-level modules that a command has imported when it ends."""
    code = LOADED.format(arguments=list(map(str, arguments)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    exit_code, modules = json.loads(done.stdout.splitlines()[-1])
    assert exit_code == 0, done.stderr
    return set(modules)


HEAVY = {"torch", "cv2", "zarr", "jinja2", "tifffile", "scipy", "rich", "PIL"}


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_imports_no_library(command):
    assert not loaded(*command.split(), "--help") & (HEAVY | {"numpy"})


@pytest.mark.parametrize("command", COMMANDS)
def test_the_summary_of_a_command_is_the_first_line_of_its_help(command):
    assert COMMANDS[command] == function_of(command).__doc__.splitlines()[0]


def test_version_imports_no_library():
    assert not loaded("--version") & (HEAVY | {"numpy"})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A transform with patches, its landmarks, and a file of points."""
    folder = tmp_path_factory.mktemp("saved")
    Pillow.fromarray(np.zeros((400, 500), np.uint8)).save(folder / "image.png")
    tifffile.imwrite(folder / "image.tif", np.zeros((400, 500), np.uint8))
    grid = PatchGrid(3, 2, (50.0, 50.0), (200.0, 300.0))
    matrix = np.array([[1.0, 0.0, 7.0], [0.0, 1.0, -3.0]])
    frame = Frame(500, 400)
    transform = register.Transform("local", frame, frame, matrix, grid, np.tile(matrix, (2, 3, 1, 1)))
    transform.save(folder / "t.json")
    (folder / "p.csv").write_text("x,y\n10,20\n30,40\n")
    return folder


@pytest.mark.skipif(torch.version.cuda is not None, reason="only a CPU build of PyTorch is known without it")
@pytest.mark.parametrize(
    ("command", "used"),
    [
        ("info t.json", set()),
        ("info image.png", {"PIL"}),
        ("info image.tif", {"tifffile"}),
        ("points t.json p.csv -o q.csv", set()),
        ("points t.json p.csv -o q_inverse.csv --inverse", set()),
        ("invert t.json -o i.json", set()),
        ("compose t.json t.json -o c.json", set()),
        ("export t.json --to itk -o t.tfm", set()),
        ("export t.json --to csv -o t.csv", set()),
        ("evaluate t.json p.csv p.csv", set()),
        ("align image.png image.tif -o out --dry-run", {"PIL", "tifffile"}),
    ],
)
def test_commands_without_pixels_import_no_torch(command, used, saved):
    names = [str(saved / word) if "." in word or word == "out" else word for word in command.split()]
    assert loaded(*names) & HEAVY <= used


def test_help_is_grouped(program):
    text = program("align", "--help").stdout
    for word in ("Images", "Method", "Initialisation", "Computing", "Output image", "--rotation-range"):
        assert word in text


def test_environment_variables_of_the_user_are_kept():
    code = """
import os
import platform
from register.cli.startup import ENVIRONMENT, configured_process
with configured_process():
    print(*(os.environ[name] == value for name, value in ENVIRONMENT.items()), os.environ["GOMP_SPINCOUNT"])
"""
    for own, spins in (({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7")):
        environment = {
            name: value for name, value in os.environ.items() if name not in startup.ENVIRONMENT
        } | own
        printed = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
        ).stdout
        assert printed.split() == [*(str(name not in own) for name in startup.ENVIRONMENT), spins]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only GNU's C library has this option")
def test_freed_memory_is_used_again():
    code = """
import resource
from register.cli.startup import configured_process
with configured_process():
    for count in range(20_000_000, 20_000_003):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        b"x" * count
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    environment = {name: value for name, value in os.environ.items() if name not in startup.ENVIRONMENT}
    pages = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert int(pages) < 1000  # of nearly 5000


def test_version():
    assert run("--version").stdout.strip() == f"register {register.__version__}"


def test_apply_takes_a_plane_of_a_stack_and_a_level_of_a_pyramid(tissue, tmp_path, program):
    folder, _ = tissue
    data = np.random.default_rng(0).integers(0, 60000, (3, 512, 512)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "stack.ome.tif", data, photometric="minisblack", metadata={"axes": "ZYX"})
    refused = program(
        "apply", folder / "transform.json", tmp_path / "stack.ome.tif", "-o", tmp_path / "o.tif"
    )
    assert refused.returncode == 1
    assert "axes ZYX" in refused.stderr
    done = program(
        "apply",
        folder / "transform.json",
        tmp_path / "stack.ome.tif",
        "-o",
        tmp_path / "o.tif",
        "--plane",
        "Z=1",
        "--compression",
        "zstd",
        "--pyramid",
    )
    assert done.returncode == 0, done.stderr
    with tifffile.TiffFile(tmp_path / "o.tif") as file:
        assert file.pages[0].compression.name == "ZSTD"
        assert file.series[0].shape == (500, 440) or file.series[0].shape == (440, 500)


def test_results_of_a_killed_run_are_replaced_and_those_of_a_finished_run_are_not(tmp_path, program):
    from register.files.atomic import atomic_write, mark_unfinished
    from register.files.owner import owner

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt), mark_unfinished(out):
        raise KeyboardInterrupt
    assert not out.exists()
    out.mkdir()
    (out / ".unfinished").touch()
    (out / "aligned.tif").write_bytes(b"whole, but the transform is missing")
    killed = owner().replace(f"-{os.getpid()}-", "-999999999-")
    (out / f".overlay.{killed}.part.png").write_bytes(b"half")
    done = program("align", *FUNDUS, "-o", out, "--preset", "fast", "--no-report", "-q")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["aligned.tif", "overlay.png", "transform.json"]
    again = program("align", *FUNDUS, "-o", out, "--preset", "fast", "--no-report", "-q")
    assert again.returncode == 1
    assert "already holds" in again.stderr
    with atomic_write(out / "overlay.png") as beside:
        beside.write_bytes(b"new")
    assert (out / "overlay.png").read_bytes() == b"new"


@pytest.mark.parametrize("optimizer", ["adam", "gauss-newton"])
def test_both_optimizers_find_the_same_warp(optimizer):
    fixed, moving = (register.read_image(path).picture() for path in TISSUE)
    found = register.align(fixed, moving, preset="fast", optimizer=optimizer, threads=1)
    points = [read_points(SAMPLES / f"tissue_landmarks_{kind}.csv") for kind in ("fixed", "moving")]
    errors = np.linalg.norm(found.transform.map(points[0]) - points[1], axis=1)
    assert np.median(errors) < 0.5


def test_mutual_information_has_no_gauss_newton_steps(tmp_path):
    done = run("align", *TISSUE, "-o", tmp_path, "--metric", "mi", "--optimizer", "gauss-newton")
    assert done.returncode == 2
    assert "no Hessian" in done.stderr


def test_doctor_lists_what_is_available_and_how_to_install_what_is_missing(program, monkeypatch):
    monkeypatch.setitem(doctor.EXTRAS, "export", ("h5py", "no_such_module"))
    monkeypatch.setenv("REGISTER_NATIVE", "0")
    said = program("doctor")
    assert said.returncode == 0
    assert f"torch {torch.__version__}" in said.stdout
    assert "DEFLATE, LZW" in said.stdout
    assert "without no_such_module\n                → pip install 'register-cli[export]'" in said.stdout
    assert "REGISTER_NATIVE=0 is set" in said.stdout
    findings = json.loads(program("doctor", "--json").stdout)["findings"]
    assert {"register", "packages", "cpu", "compiled step", "codecs", "extra export", "extra dask"} <= {
        each["subject"] for each in findings
    }
    assert all(each["found"] for each in findings)
