"""Draw the figures of method.md from the tissue sample: ``python -m docs.figures``."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import register
from register.geometry.patch_grid import PatchGrid
from register.images import descriptors, preprocess, pyramid

ROOT = Path(__file__).parent.parent
OUT = ROOT / "docs" / "images"


def blend_weights() -> None:
    grid = PatchGrid(5, 2, (-0.5, -0.5), (25.0, 25.0))
    x = np.linspace(-12, 112, 500)
    basis = grid.axis_basis(x, 0)
    figure, axes = plt.subplots(1, 2, figsize=(9, 2.6), layout="constrained")
    for i in range(5):
        axes[0].plot(x, basis[:, i])
        axes[1].plot(x, basis[:, 5 + i])
    axes[0].set(title="hat weights $w_i$", xlabel="x (px)")
    axes[1].set(title="weighted offsets $w_i (x - c_i) / s$", xlabel="x (px)")
    figure.savefig(OUT / "basis.png", dpi=110)


def structures(images: list[np.ndarray]) -> None:
    figure, axes = plt.subplots(1, 4, figsize=(11, 2.9), layout="constrained")
    for i, (name, image) in enumerate(zip(("fixed", "aligned, another stain"), images, strict=True)):
        plane = torch.from_numpy(image.astype(np.float32)).mean(0, keepdim=True)
        level = pyramid.shrink(
            pyramid.base(preprocess.normalise(plane, torch.ones_like(plane)), torch.ones_like(plane)), 2
        )
        vectors = descriptors.orientation(level.image[None], level.mask[None])[0].numpy()
        axes[2 * i].imshow(level.image[0].numpy(), cmap="gray")
        axes[2 * i].set_title(name)
        axes[2 * i + 1].imshow(
            np.arctan2(vectors[1], vectors[0]), cmap="twilight", alpha=np.clip(np.hypot(*vectors), 0, 1)
        )
        axes[2 * i + 1].set_title("orientation structure")
    for axis in axes:
        axis.set_axis_off()
    figure.savefig(OUT / "structure.png", dpi=110)


def field_and_loss(alignment: register.Alignment, fixed: np.ndarray) -> None:
    transform = alignment.transform
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    centres = transform.grid.centres().reshape(-1, 2)
    deviation = transform.map(centres) - (centres @ transform.matrix[:, :2].T + transform.matrix[:, 2])
    axes[0].imshow(fixed)
    axes[0].quiver(*centres.T, *deviation.T, angles="xy", color="tab:blue", width=0.004)
    axes[0].set(title=f"{len(centres)} patches: deviation from the global map")
    axes[0].set_axis_off()
    for name, history in alignment.history.items():
        axes[1].plot(history, label=name)
    axes[1].set(title="loss on each level", xlabel="step", ylabel="mean of log(1 - similarity)")
    axes[1].legend()
    figure.savefig(OUT / "field.png", dpi=110)


def main() -> None:
    fixed, moving = (
        np.moveaxis(register.read_image(ROOT / "sample_images" / f"tissue_{kind}.png").pixels, 0, 2)
        for kind in ("fixed", "moving")
    )
    alignment = register.align(fixed, moving)
    aligned = register.warp(moving, alignment.transform)
    blend_weights()
    structures([np.moveaxis(fixed, 2, 0), np.moveaxis(aligned, 2, 0)])
    field_and_loss(alignment, fixed)


if __name__ == "__main__":
    main()
