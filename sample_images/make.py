"""Make the sample pairs from images of the scikit-image package: ``python -m sample_images.make``.

Both images of a pair are made from one picture. The moving image is the picture itself, changed in contrast.
The fixed image samples it through a known map (rotation, scale, smooth warp), so that landmarks are exact.
Sources and licences are in README.md beside this file.
"""

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates
from skimage import data

from benchmarks.synthetic import smooth_field

HERE = Path(__file__).parent
Array = NDArray[np.float64]


def moving_from_fixed(
    width: int, height: int, centre: tuple[float, float], degrees: float, scale: float, warp: float, seed: int
) -> Array:
    """The map (h, w, 2) from fixed pixels to the moving image: a similarity, then a smooth warp."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    x, y = x - (width - 1) / 2, y - (height - 1) / 2
    cos, sin = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    rotated = np.stack([cos * x - sin * y + centre[0], sin * x + cos * y + centre[1]], axis=2)
    return rotated + smooth_field(height, width, warp, seed)


def read_through(image: Array, points: Array, fill: float) -> Array:
    """The image (h, w) at points (h', w', 2), by cubic splines."""
    return map_coordinates(image, [points[..., 1], points[..., 0]], order=3, mode="constant", cval=fill)


def restained(image: Array) -> Array:
    """An RGB picture (h, w, 3) in [0, 1] in another stain: optical densities mixed across channels, gamma."""
    density = -np.log(np.clip(image, 0.02, 1))
    mixing = np.array([[0.15, 0.55, 0.25], [0.60, 0.10, 0.30], [0.30, 0.30, 0.35]])
    return np.exp(-(density @ mixing.T)) ** 0.8


def save_landmarks(name: str, points: Array, moving_shape: tuple[int, ...], step: int = 60) -> None:
    """Save exact landmarks on a regular grid of the fixed image, those that are inside the moving image."""
    rows = []
    for y in range(step // 2, points.shape[0], step):
        for x in range(step // 2, points.shape[1], step):
            px, py = points[y, x]
            if 4 < px < moving_shape[1] - 5 and 4 < py < moving_shape[0] - 5:
                rows.append((x, y, px, py))
    for kind, columns in (("fixed", slice(0, 2)), ("moving", slice(2, 4))):
        values = np.array(rows)[:, columns]
        np.savetxt(
            HERE / f"{name}_landmarks_{kind}.csv",
            values,
            fmt="%.4f",
            delimiter=",",
            header="x,y",
            comments="",
        )


def tissue() -> None:
    """Colonic glands, 8-bit RGB PNG: another stain, 12° of rotation, a smooth warp, noise, another size."""
    rng = np.random.default_rng(1)
    source = data.immunohistochemistry() / 255.0
    moving = np.clip(restained(source) + rng.normal(0, 0.01, source.shape), 0, 1)
    points = moving_from_fixed(500, 440, (255.5, 255.5), 12, 0.94, 9.0, 5)
    fixed = np.stack([read_through(source[..., c], points, 0.93) for c in range(3)], axis=2)
    fixed = np.clip(fixed + rng.normal(0, 0.006, fixed.shape), 0, 1)
    for kind, image in (("fixed", fixed), ("moving", moving)):
        Image.fromarray(np.rint(image * 255).astype(np.uint8)).save(
            HERE / f"tissue_{kind}.png", optimize=True
        )
    save_landmarks("tissue", points, moving.shape)


def fundus() -> None:
    """Vessels of a retina, 16-bit grey TIFF with pixel size: -8° of rotation, a smooth warp, noise."""
    rng = np.random.default_rng(2)
    source = gaussian_filter(data.retina()[..., 1] / 255.0, 0.7)[330:1090, 300:1020]
    moving = source**0.8 + rng.normal(0, 0.004, source.shape)
    points = moving_from_fixed(640, 600, (359.5, 379.5), -8, 1.05, 10.0, 7)
    fixed = read_through(source, points, 0.0) + rng.normal(0, 0.004, points.shape[:2])
    for kind, image in (("fixed", fixed), ("moving", moving)):
        pixels = np.rint(np.clip(image * 1.2, 0, 1) * 4095).astype(np.uint16) * 12
        tifffile.imwrite(
            HERE / f"fundus_{kind}.tif",
            pixels,
            compression="zlib",
            predictor=True,
            resolution=(1e4 / 6.5, 1e4 / 6.5),
            resolutionunit="CENTIMETER",
            metadata=None,
        )
    save_landmarks("fundus", points, moving.shape)


if __name__ == "__main__":
    tissue()
    fundus()
