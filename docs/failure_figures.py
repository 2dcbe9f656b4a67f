"""Make the pair and the pictures of ``how-to/failure-to-fix.md``: ``python -m docs.failure_figures``.

It needs chromium. ``--keep FOLDER`` keeps the pair, its landmarks and both results.
"""

import argparse
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image as Picture
from PIL import ImageFilter
from playwright.sync_api import sync_playwright

from register import settings
from register.workflows.align import Job, run

ROOT = Path(__file__).parent.parent
OUT = ROOT / "docs" / "images"
SAMPLES = ROOT / "sample_images"
LEFT, SHARE, BLUR, NOISE = 180, 0.3, 5.0, 90.0
"""What is left of the moving image, from which column, how blurred, and with how much noise."""
HELD = 6
SIZE = 1000, 700


def bad_pair(folder: Path) -> None:
    """Write a pair that fails by itself, and landmarks in both: six to hold, the others to check."""
    fixed, moving = (
        Picture.open(SAMPLES / f"tissue_{kind}.png").convert("RGB") for kind in ("fixed", "moving")
    )
    fixed.save(folder / "fixed.png")
    width = int(SHARE * moving.width)
    part = moving.crop((LEFT, 0, LEFT + width, moving.height)).filter(ImageFilter.GaussianBlur(BLUR))
    noise = np.random.default_rng(0).normal(0, NOISE, (part.height, part.width, 1))
    Picture.fromarray((np.asarray(part) + noise).clip(0, 255).astype(np.uint8)).save(folder / "moving.png")
    one, other = (
        np.loadtxt(SAMPLES / f"tissue_landmarks_{kind}.csv", delimiter=",", skiprows=1)
        for kind in ("fixed", "moving")
    )
    other = other - [LEFT, 0]
    inside = (other[:, 0] > 5) & (other[:, 0] < width - 5)
    order = np.random.default_rng(1).permutation(int(inside.sum()))
    for name, points in (("fixed", one[inside][order]), ("moving", other[inside][order])):
        np.savetxt(folder / f"{name}_points.csv", points[:HELD], delimiter=",", header="x,y", comments="")
        np.savetxt(folder / f"{name}_check.csv", points[HELD:], delimiter=",", header="x,y", comments="")


def work(folder: Path) -> None:
    """Align the pair without and with landmarks, and take a picture of the top of each report."""
    os.chdir(folder)
    bad_pair(Path())
    pair = Path("fixed.png"), Path("moving.png")
    run(Job(*pair, Path("aligned"), settings.check(preset="fast"), overwrite=True))
    held = settings.check(
        preset="fast",
        landmarks_hold="fixed_points.csv,moving_points.csv",
        landmarks="fixed_check.csv,moving_check.csv",
    )
    run(Job(*pair, Path("corrected"), held, overwrite=True))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})
        for name in ("aligned", "corrected"):
            page.goto((Path(name) / "report.html").resolve().as_uri())
            page.wait_for_timeout(500)
            page.screenshot(path=f"{name}.png")
            picture = Picture.open(f"{name}.png").convert("RGB")
            picture.quantize(256).save(OUT / f"failure-{name}.png", optimize=True)
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="folder in which everything is kept")
    keep = parser.parse_args().keep
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
        work(keep)
        return
    with TemporaryDirectory() as folder:
        work(Path(folder))


if __name__ == "__main__":
    main()
