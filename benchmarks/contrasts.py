"""Accuracy between different contrasts, with a dense known warp.

    python -m benchmarks.contrasts [--metrics auto structure mind ncc]

Stains of one section, colour channels of one image, and grey values folded at the middle (|2x - 1|), under a
smooth warp of 2 % of the diagonal. Prints the median and the 90th percentile of the error in pixels with
texture, and their geometric means over the pairs.
"""

import argparse
import time
from collections.abc import Iterator

import numpy as np
from scipy.ndimage import map_coordinates
from skimage import color, data

import register
from benchmarks.accuracy import Images, Pair
from benchmarks.synthetic import smooth_field, textured
from register.settings import metrics


def pictures() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """A name and two images (h, w) in [0, 1] of one object, aligned to the pixel."""
    tissue, retina = data.immunohistochemistry(), data.retina()[300:900, 400:1000] / 255
    stains, grey = color.rgb2hed(tissue), _robust(color.rgb2gray(tissue))
    sky, face, gravel = (
        data.hubble_deep_field()[100:700, 100:700] / 255,
        data.astronaut() / 255,
        _robust(data.gravel() / 255),
    )
    yield "tissue haematoxylin / DAB", _robust(stains[..., 0]), _robust(stains[..., 2])
    yield "tissue grey / DAB", grey, _robust(stains[..., 2])
    yield "retina red / green", _robust(retina[..., 0]), _robust(retina[..., 1])
    yield "hubble red / blue", _robust(sky[..., 0]), _robust(sky[..., 2])
    yield "gravel folded", gravel, np.abs(2 * gravel - 1)
    yield "tissue folded", grey, np.abs(2 * grey - 1)
    yield "face red / blue inverted", _robust(face[..., 0]), 1 - _robust(face[..., 2])


def pairs() -> list[Pair]:
    """The pairs; they are found if their median error is at most 1 % of the diagonal."""
    return [
        Pair(name, True, lambda one=one, other=other: _images(one, other)) for name, one, other in pictures()
    ]


def _images(one: np.ndarray, other: np.ndarray) -> Images:
    """The images of a pair; ``one``, warped, is the fixed image. Errors are those of pixels with texture."""
    height, width = one.shape
    diagonal = float(np.hypot(height, width))
    identity = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=2)
    truth = identity + smooth_field(height, width, 0.02 * diagonal, 3)
    warped = map_coordinates(one, [truth[..., 1], truth[..., 0]], order=5, mode="reflect")
    judged = ((truth >= 0) & (truth <= [width - 1, height - 1])).all(axis=2) & textured(warped)
    rng = np.random.default_rng(0)
    fixed, moving = (x + rng.normal(0, 0.02, x.shape) for x in (warped, other))

    def errors(transform: register.Transform) -> np.ndarray:
        return np.linalg.norm(transform.field().numpy() + identity - truth, axis=2)[judged]

    before = float(np.median(np.linalg.norm(truth - identity, axis=2)[judged]))
    return Images(fixed, moving, before, 0.01 * diagonal, errors)


def _robust(plane: np.ndarray) -> np.ndarray:
    low, high = np.percentile(plane, (0.5, 99.5))
    return np.clip((plane - low) / (high - low), 0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--metrics", nargs="+", default=["auto", "structure", "mind", "ncc"], choices=metrics()
    )
    options = parser.parse_args()
    for metric in options.metrics:
        figures = []
        for pair in pairs():
            images, begin = pair.load(), time.perf_counter()
            found = register.align(images.fixed, images.moving, metric=metric)
            seconds, used = time.perf_counter() - begin, found.quality["metric"]
            figures.append(np.percentile(images.errors(found.transform), (50, 90)))
            median, high = figures[-1]
            errors_of_pair = f"median {median:7.3f} px, p90 {high:7.3f} px"
            print(f"{pair.name:26s} {metric:9s} ({used:9s}) {errors_of_pair}, {seconds:5.1f} s", flush=True)
        mean = np.exp(np.log(figures).mean(axis=0))
        print(
            f"{'geometric mean':26s} {metric:21s} median {mean[0]:7.3f} px, p90 {mean[1]:7.3f} px", flush=True
        )


if __name__ == "__main__":
    main()
