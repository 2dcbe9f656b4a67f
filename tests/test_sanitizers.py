"""The C code under AddressSanitizer and UndefinedBehaviorSanitizer.

The images have sizes at which wrong indices are most likely.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import hatch_build
from register.kernels import cpu

SOURCES = sorted((Path(cpu.__file__).parent / "c").glob("*.c"))
FLAGS = [
    "-std=gnu11",
    "-O1",
    "-g",
    "-fPIC",
    "-shared",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
]
DRIVER = """
import ctypes, sys
import torch
from register.geometry.patch_grid import PatchGrid
from register.engine.movie import space
from register.kernels import cpu, dispatch, movie
from register.kernels.step_sums import PairInput

library = ctypes.CDLL(sys.argv[1])
cpu.library = lambda: library
torch.manual_seed(0)
SIZES = [(2, 2), (3, 7), (21, 33), (41, 257), (64, 300), (1, 40)]
MAPS = [(1, 0, 0.3, 0, 1, -0.4), (0, -1, 40, 1, 0, 3), (0.8, -0.6, 9, 0.6, 0.8, -20), (1, 0, 1e4, 0, 1, -1e4)]
for channels, kind in ((1, "ncc"), (2, "cosine"), (8, "cosine")):
    for height, width in SIZES:
        for numbers in MAPS:
            for window, block in ((20, 10), (8, 8), (1, 1), (13, 13)):
                moving_size = max(height - 1, 2), width + 5
                fixed, moving = torch.rand(channels, height, width), torch.rand(channels, *moving_size)
                weight, mask = torch.rand(1, height, width), torch.ones(1, *moving_size)
                weight[:, : height // 3], mask[:, :, : width // 4] = 0, 0
                matrix = torch.tensor(numbers).reshape(2, 3)
                pair = dispatch.prepare(PairInput(fixed, weight, moving, mask, matrix, kind, window))
                grid = PatchGrid.cover(height, width, 15)
                for size in (3.0, 1e5, float("nan")):
                    parameters = size * torch.randn(2, 3, grid.rows, grid.columns)
                    dispatch.expand(pair, grid, parameters, block)
                    dispatch.similarities(pair, grid, parameters)
for height, width, spacing in ((2, 2, 1), (9, 70, 9), (60, 61, 7), (3, 200, 5)):
    grid = PatchGrid.cover(height, width, spacing)
    penalty = torch.rand(2, 2, 2, grid.columns), torch.rand(2, 2, 2, grid.rows)
    system = dispatch.patch_system(grid, torch.arange(0.0, width, 3), torch.arange(0.0, height, 3), penalty)
    curvature, right = torch.rand(3, *system.blocks), torch.randn(2, 3, grid.rows, grid.columns)
    system.solve(curvature, torch.ones(grid.count), right, steps=5, tolerance=0.0)
    system.penalty_gradient(right)
for height, width in SIZES:
    for frame_size in ((max(height, 2), width), (2, 2), (height + 9, width + 1)):
        for axis in (space.spline_axis, lambda length, intervals: space.linear_axis(length)):
            y, x = axis(height, 2), axis(width, 16)
            for numbers in (*MAPS, (float("nan"), 0, 0, 0, 1, 0), (1e30, 0, 1e30, 0, -1e30, 0)):
                for size in (0.0, 2.0, 1e6, float("inf"), float("nan")):
                    frame, target = torch.rand(frame_size), [torch.rand(height, width) for _ in range(4)]
                    frame[0, -1] = float("nan")
                    coefficients = size * torch.randn(2, y.count, x.count)
                    displaced = movie.Displaced(frame, y, x, coefficients, tuple(map(float, numbers)))
                    movie.resample(displaced, -1.0)
                    movie.step(displaced, movie.Target(*target), (1.5, 0.1, 0.3))
print("done")
"""


@pytest.mark.slow
@pytest.mark.parametrize("processor", [pytest.param("default", marks=pytest.mark.variant), "avx2"])
def test_the_c_code_has_no_error_that_sanitizers_find(tmp_path, processor):
    compiler = os.environ.get("CC", "cc")
    library, options = tmp_path / "sanitized.so", hatch_build.KINDS[processor]
    command = [compiler, *FLAGS, *options, "-o", str(library), *map(str, SOURCES), "-lm"]
    try:
        built = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    except OSError as error:
        pytest.skip(f"no C compiler: {error}")
    if built.returncode:
        pytest.skip(f"the compiler has no sanitizers: {built.stderr[-300:]}")
    named = subprocess.run(
        [compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    )
    environment = os.environ | {
        "LD_PRELOAD": named.stdout.strip(),
        "ASAN_OPTIONS": "detect_leaks=0",
        "OMP_NUM_THREADS": "1",
    }
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER)
    done = subprocess.run(
        [sys.executable, str(driver), str(library)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith("done\n")
