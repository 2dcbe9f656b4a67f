"""Small deformations: u = a sin(2πx/128) cos(2πy/128) pixels along x, in noise, and affine pairs without any.

    python -m benchmarks.small [--draws 5] [--noise 1] [--seed 0]

Textures of 512² pixels with values of 0 to 255 and a contrast of 40; the noise of both images is Gaussian,
with a standard deviation of ``--noise`` grey values. Prints for every amplitude the recovered one, by least
squares at points inside, relative to the true one, the median error, the median expected error, and how
many of the draws kept patches; and the same errors for affine pairs with noise of 1 to 8 levels.
"""

import argparse
import math
from dataclasses import asdict, dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

import register
from benchmarks import results
from register.geometry import affine

AMPLITUDES = 0.0, 0.01, 0.02, 0.05, 0.1, 0.3
SIDE, PERIOD, BORDER = 512, 128, 32


@dataclass(frozen=True)
class Row:
    """The figures of a pair, in pixels; ``recovered`` relative to the amplitude, 0 without any."""

    what: str
    amplitude: float
    noise: float
    recovered: float
    median: float
    expected: float | None
    deformed: bool
    verdict: str


def texture(rng: np.random.Generator) -> np.ndarray:
    """A texture of two scales (SIDE + 2 BORDER)², values about 128 with a standard deviation of 40."""
    side = SIDE + 2 * BORDER
    fine, coarse = (gaussian_filter(rng.normal(size=(side, side)), sigma) for sigma in (1.5, 4))
    mixed = fine + 2 * coarse
    return 128 + 40 * mixed / mixed.std()


def shape_of(points: np.ndarray) -> np.ndarray:
    """The displacement (n,) along x at points (n, 2) for an amplitude of one pixel."""
    phase = 2 * math.pi * points / PERIOD
    return np.sin(phase[:, 0]) * np.cos(phase[:, 1])


def noisy(rng: np.random.Generator, image: np.ndarray, noise: float) -> np.ndarray:
    """The image with noise, clipped to 8 bits' range."""
    return np.clip(image + rng.normal(0, noise, image.shape), 0, 255)


def sampled(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The texture at points (n, 2) of the inner square, by splines of order five, (SIDE, SIDE)."""
    return map_coordinates(image, points.T[::-1] + BORDER, order=5).reshape(SIDE, SIDE)


def pixels() -> np.ndarray:
    """All pixel positions (n, 2)."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    return np.stack([x.ravel(), y.ravel()], 1)


def deformed(rng: np.random.Generator, amplitude: float, noise: float) -> Row:
    """A pair under the deformation."""
    image, at = texture(rng), pixels()
    source = at.copy()
    for _ in range(5):  # the inverse of x -> x + u(x)
        source[:, 0] = at[:, 0] - amplitude * shape_of(source)
    fixed, moving = (noisy(rng, x, noise) for x in (sampled(image, at), sampled(image, source)))
    return measured("deformed", fixed, moving, amplitude, noise, affine.identity())


def undeformed(rng: np.random.Generator, noise: float) -> Row:
    """A pair under a random affine map."""
    image, centre = texture(rng), np.full(2, (SIDE - 1) / 2)
    angle, scale = math.radians(rng.uniform(-20, 20)), math.exp(rng.uniform(-0.1, 0.1))
    truth = affine.similarity(angle, scale, centre, centre + rng.uniform(-4, 4, 2))
    truth[:, :2] += rng.normal(0, 0.01, (2, 2))
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    at = affine.apply(affine.invert(truth), np.stack([x.ravel(), y.ravel()], 1))
    moving = map_coordinates(image, at.T[::-1] + BORDER, order=5, mode="reflect").reshape(SIDE, SIDE)
    pair = (noisy(rng, x, noise) for x in (sampled(image, pixels()), moving))
    return measured("affine", *pair, 0.0, noise, truth)


def measured(
    what: str, fixed: np.ndarray, moving: np.ndarray, amplitude: float, noise: float, truth: np.ndarray
) -> Row:
    """Align the pair and compare the map with an affine one (2, 3) and the deformation."""
    found = register.align(fixed, moving)
    inner = pixels().reshape(SIDE, SIDE, 2)[48:-48:8, 48:-48:8].reshape(-1, 2)
    rest = found.transform.map(inner) - affine.apply(truth, inner)
    unit = shape_of(inner)
    design = np.column_stack([unit, np.ones(len(unit)), inner])
    slope = float(np.linalg.lstsq(design, rest[:, 0], rcond=None)[0][0])
    rest[:, 0] -= amplitude * unit
    return Row(
        what,
        amplitude,
        noise,
        slope / amplitude if amplitude else 0.0,
        float(np.median(np.linalg.norm(rest, axis=1))),
        found.quality.expected_error,
        found.quality.local_displacement_max > 0,
        str(found.quality.verdict),
    )


def show(rows: list[Row]) -> None:
    """A line per amplitude and per noise of the affine pairs."""
    for key in dict.fromkeys((row.what, row.amplitude, row.noise) for row in rows):
        those = [row for row in rows if (row.what, row.amplitude, row.noise) == key]
        recovered = [row.recovered for row in those]
        print(
            f"{key[0]:9s} {key[1]:.2f} px, noise {key[2]:g}: recovered {np.median(recovered):.3f} "
            f"({min(recovered):.3f} to {max(recovered):.3f}), "
            f"error {np.median([row.median for row in those]):.4f} px, "
            f"expected {np.median([row.expected or np.nan for row in those]):.4f} px, "
            f"patches kept in {sum(row.deformed for row in those)} of {len(those)}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--noise", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    results.add_options(parser)
    options = parser.parse_args()
    rows = []
    for amplitude in AMPLITUDES:
        draws = [np.random.default_rng((options.seed, i)) for i in range(options.draws)]
        rows += [deformed(rng, amplitude, options.noise) for rng in draws]
        show(rows[-options.draws :])
    for noise in (1.0, 4.0, 8.0):
        draws = [np.random.default_rng((options.seed, 1, i)) for i in range(options.draws)]
        rows += [undeformed(rng, noise) for rng in draws]
        show(rows[-options.draws :])
    results.keep(options, [asdict(row) for row in rows])


if __name__ == "__main__":
    main()
