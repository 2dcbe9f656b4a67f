"""The transforms of a movie's frames in one file, ``transforms.npz``."""

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from register.errors import FileError
from register.files.atomic import as_path, atomic_write
from register.geometry.spline_map import SplineMap
from register.transforms.frame import Frame
from register.transforms.quality import Provenance, Quality, Verdict
from register.transforms.transform import Transform

FORMAT, VERSION = "register-movie", 1
REFERENCE = -1
"""The number of the frame to which a frame was aligned, where that is the reference."""


@dataclass(frozen=True, eq=False)
class FrameTransform:
    """The map from the reference to a frame, with its verdict, reasons and figures.

    ``against`` is the frame to which it was aligned, ``REFERENCE`` for the reference.
    """

    map: SplineMap
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    similarity: float = 0.0
    expected_error: float = np.inf
    against: int = REFERENCE

    @property
    def bad(self) -> bool:
        """Whether the frame failed."""
        return self.verdict == Verdict.FAILED


def without_folds(of: FrameTransform) -> FrameTransform:
    """A transform whose displacement folds with less of it, and ``suspect``; another one as it is."""
    if not of.map.folds:
        return of
    verdict = Verdict.worst((of.verdict, Verdict.SUSPECT))
    reasons = (*of.reasons, "the deformation folded and was reduced")
    return replace(of, map=of.map.unfolded(), verdict=verdict, reasons=reasons)


@dataclass(frozen=True, eq=False)
class MovieTransforms(Sequence["Transform"]):
    """The transforms of a movie: ``movie[n]`` is the ``Transform`` from the reference to frame n.

    ``model`` is the model of all of them; ``canvas`` the place (left, top) on the reference of the first
    pixel of the aligned frames, and their width and height, where it is known.
    """

    model: str
    frames: tuple[FrameTransform, ...]
    canvas: tuple[int, int, int, int] | None = None

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Transform]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> Transform:  # type: ignore[override]
        """The transform of one frame."""
        if not -len(self) <= number < len(self):
            raise IndexError(f"there are {len(self)} frames")
        number %= len(self)
        return transform_of(self.model, self.frames[number], number)

    def save(self, path: str | Path) -> None:
        """Write the file atomically."""
        maps = [one.map for one in self.frames]
        shape = next((m.coefficients.shape for m in maps if m.coefficients is not None), (2, 0, 0))
        flat = [np.zeros(shape) if m.coefficients is None else m.coefficients for m in maps]
        with atomic_write(path) as beside, open(beside, "wb") as file:
            np.savez(
                file,
                format=np.array(FORMAT),
                version=np.array(VERSION),
                size=np.array([maps[0].height, maps[0].width]),
                model=np.array(self.model),
                frame=np.arange(len(maps)),
                matrix=np.array([m.matrix for m in maps]),
                coefficients=np.array(flat, dtype=np.float32),
                verdict=np.array([str(one.verdict) for one in self.frames]),
                reasons=np.array(["; ".join(one.reasons) for one in self.frames]),
                similarity=np.array([one.similarity for one in self.frames]),
                expected_error=np.array([one.expected_error for one in self.frames]),
                against=np.array([one.against for one in self.frames]),
                canvas=np.array(self.canvas or ()),
            )

    @staticmethod
    def load(path: str | Path) -> "MovieTransforms":
        """Read the file. Raises ``FileError`` naming what is wrong."""
        try:
            with open(as_path(path), "rb") as opened, np.load(opened, allow_pickle=False) as file:
                values = {name: file[name] for name in file.files}
            if str(values["format"]) != FORMAT or int(values["version"]) != VERSION:
                raise FileError(path, f"is not version {VERSION} of {FORMAT}", "update register")
            return _of(values)
        except FileNotFoundError:
            raise FileError(path, "does not exist", "check the path") from None
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
            raise FileError(
                path, f"is not a file of a movie's transforms ({error})", "check the file"
            ) from None


def load_movie(path: str | Path) -> MovieTransforms:
    """The transforms in the ``transforms.npz`` of a movie: ``load_movie(path)[n]`` is that of frame n.

    Raises ``FileError`` naming what is wrong with the file.
    """
    return MovieTransforms.load(path)


def _of(values: dict[str, np.ndarray]) -> MovieTransforms:
    """The transforms of the arrays of a file."""
    (height, width), coefficients = values["size"].tolist(), values["coefficients"].astype(np.float64)
    if not np.isfinite(values["matrix"]).all() or not np.isfinite(coefficients).all():
        raise ValueError("a number is not finite")
    frames = tuple(
        FrameTransform(
            SplineMap(height, width, matrix, own if own.size else None),
            Verdict(str(verdict)),
            tuple(filter(None, str(reasons).split("; "))),
            float(similarity),
            float(error),
            int(against),
        )
        for matrix, own, verdict, reasons, similarity, error, against in zip(
            values["matrix"], coefficients, values["verdict"], values["reasons"],
            values["similarity"], values["expected_error"], values["against"], strict=True,
        )
    )  # fmt: skip
    canvas = [int(x) for x in values.get("canvas", ())]
    place = (canvas[0], canvas[1], canvas[2], canvas[3]) if len(canvas) == 4 else None
    return MovieTransforms(str(values["model"]), frames, place)


def transform_of(model: str, of: FrameTransform, number: int | None = None) -> Transform:
    """The transform of one frame, with patches in place of the spline."""
    frame, patches = Frame(of.map.width, of.map.height), of.map.patches()
    quality = Quality(
        verdict=of.verdict,
        reasons=of.reasons,
        similarity_after=round(of.similarity, 5),
        shift=tuple(round(value, 4) for value in of.map.shift),
        expected_error=of.expected_error if np.isfinite(of.expected_error) else None,
    )
    made = Provenance(against="reference" if of.against == REFERENCE else of.against)
    made = made if number is None else replace(made, frame=number)
    grid, matrices = patches or (None, None)
    named = model if patches or model != "local" else "affine"
    return Transform(named, frame, frame, of.map.matrix, grid, matrices, quality=quality, provenance=made)
