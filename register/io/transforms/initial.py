"""The start of an alignment that the user gives with ``init``."""

from pathlib import Path

import torch
from torch import Tensor

from register.errors import RegisterError
from register.geometry import affine_tensors, models
from register.geometry.pixel_size import Sizes
from register.io.points.landmarks import LandmarkFiles, Landmarks, read_pairs
from register.io.transforms.start import read_start
from register.settings import Settings
from register.transforms.transform import Transform

Size = tuple[int, int]
"""Height and width in pixels."""
PAIRS = ".csv"
"""The suffix of a file of pairs, as BigWarp writes it."""
FOREIGN = (".tfm", ".txt")
"""Suffixes of the transform files of ITK and elastix."""


def initial_matrix(
    settings: Settings, fixed: Size, moving: Size, pixels: Sizes = (None, None)
) -> Tensor | None:
    """The matrix (2, 3) from which the alignment starts, in pixels; None when it is to be searched.

    ``fixed`` and ``moving`` are the sizes of the images, ``pixels`` their pixel sizes, which define the
    unit of lengths in other programs' files. Raises ``RegisterError`` for a start that cannot be read.
    """
    if settings.init == "auto":
        return None
    if settings.init == "identity":
        return affine_tensors.identity()
    if settings.init == "center":
        return affine_tensors.translation((moving[1] - fixed[1]) / 2, (moving[0] - fixed[0]) / 2)
    landmarks = LandmarkFiles.parse(settings.init)
    if landmarks:
        return _fitted(landmarks.read(), settings)
    path = Path(settings.init)
    if not path.exists():
        raise RegisterError(
            f"--init {settings.init}: is none of auto, identity, center, and no file of that name exists"
        )
    if path.suffix.lower() == PAIRS:
        return _fitted(read_pairs(settings.init), settings)
    if path.suffix.lower() in FOREIGN:
        return torch.from_numpy(read_start(path, pixels))
    return torch.from_numpy(Transform.load(path).matrix)


def _fitted(landmarks: Landmarks, settings: Settings) -> Tensor:
    """The global map fitted to landmarks; its model is the richest they determine, unless one is chosen."""
    fixed, moving = landmarks
    model = models.for_landmarks(len(fixed)) if settings.model in ("affine", "local") else settings.model
    try:
        return torch.from_numpy(models.get(model).fit(fixed, moving))
    except ValueError as error:
        raise RegisterError(f"--init {settings.init}: {error}") from None
