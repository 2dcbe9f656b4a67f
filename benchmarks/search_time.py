"""Seconds of the search for a start over the full circle and scales of 0.4 to 2.5, 1000 × 1000 pixels.

    python -m benchmarks.search_time [--repeat 5]

Pairs of the same and of inverted contrast are found by their features; folded ones are searched without
features, so that the complete correlation runs. Working copies are made before the clock starts.
"""

import argparse
import math
import time
from contextlib import nullcontext
from unittest.mock import patch

import numpy as np
import torch
from scipy.ndimage import map_coordinates

from benchmarks.accuracy import textures
from benchmarks.synthetic import folded
from register import settings
from register.engine.fit.working_copy import working_copy
from register.engine.initial import features, search
from register.engine.initial.search_range import SearchRange
from register.geometry import affine
from register.images import pyramid

ANGLE = 100.0


def rotated(texture: np.ndarray) -> np.ndarray:
    """The texture rotated about its centre, reflected at its border."""
    centre, angle = np.array(texture.shape) / 2, math.radians(ANGLE)
    y, x = (np.indices(texture.shape).T - centre).T
    rows, columns = (
        centre[0] + x * math.sin(angle) + y * math.cos(angle),
        centre[1] + x * math.cos(angle) - y * math.sin(angle),
    )
    return map_coordinates(texture, [rows, columns], order=3, mode="reflect")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    rng = np.random.default_rng(0)
    for name in ("retina", "tissue"):
        texture = textures()[name][:1000, :1000]
        for contrast, moving in (("same", texture), ("inverted", 1 - texture), ("folded", folded(texture))):
            levels = []
            for image in (rotated(texture), moving):
                plane = torch.from_numpy(image + rng.normal(0, 0.02, image.shape)).float()[None]
                levels.append(working_copy(pyramid.base(plane), 2048, "fixed"))
            seconds = []
            for _ in range(repeat):
                begin = time.perf_counter()
                with (
                    patch.object(features, "match", return_value=None)
                    if contrast == "folded"
                    else nullcontext()
                ):
                    found = search.find(
                        *levels, [SearchRange("local", 180.0, settings.PRESETS["balanced"].candidates)]
                    )
                seconds.append(time.perf_counter() - begin)
            off = (abs(affine.decompose(found.matrix).rotation) - ANGLE + 180) % 360 - 180
            size = f"{texture.shape[1]} × {texture.shape[0]}"
            figures = f"median {np.median(seconds):.2f} s, least {min(seconds):.2f} s"
            print(f"{name:7s} {size:11s} {contrast:8s} {figures}, rotation error {off:+.2f}°", flush=True)


if __name__ == "__main__":
    main()
