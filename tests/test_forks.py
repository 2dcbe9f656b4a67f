"""Processes that are forked after an alignment do not wait for ever, and those that are spawned compute."""

import subprocess
import sys

import pytest

PROGRAM = """
import multiprocessing, sys
import numpy as np, torch
torch.set_num_threads(2)
import register

rng = np.random.default_rng(0)
image = np.kron(rng.random((30, 30)), np.ones((6, 6))) + rng.random((180, 180)) / 5

def align(_):
    found = register.align(image, image[3:, 2:], preset="fast", model="translation").transform
    return found.matrix.round(1).tolist()

def warp(_):
    frame = register.Transform.load(sys.argv[2])
    return register.warp(image, frame).shape

if __name__ == "__main__":
    first = align(0)
    with multiprocessing.get_context(sys.argv[1]).Pool(1) as pool:
        for work in (align, warp) if sys.argv[2:] else (align,):
            try:
                print(pool.map(work, range(2)) == [first] * 2)
            except register.RegisterError as error:
                print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_other_processes_after_an_alignment(method, tmp_path):
    import numpy as np

    from register.transforms.frame import Frame
    from register.transforms.transform import Transform

    frame = Frame(180, 180)
    Transform("translation", frame, frame, np.eye(3)[:2]).save(tmp_path / "t.json")
    (tmp_path / "program.py").write_text(PROGRAM)
    arguments = [method, str(tmp_path / "t.json")] if method == "fork" else [method]
    done = subprocess.run(
        [sys.executable, tmp_path / "program.py", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if method == "spawn":
        assert done.stdout == "True\n"
        return
    assert done.stdout.count("this process was forked after images had been aligned") == 2
    assert done.stdout.count("get_context('spawn')") == 2
