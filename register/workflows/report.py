"""``register report``: the page of a finished alignment, and the index of many."""

import os
from dataclasses import fields, replace
from pathlib import Path

from register import settings
from register.errors import FileError, RegisterError
from register.files.atomic import refuse_inputs, write_text
from register.io.images.colours import colour_picture
from register.report.index import index
from register.report.page import compared, details, page
from register.report.panels import Scene
from register.report.pictures import Overlays
from register.settings import Settings, working_size
from register.transforms.transform import Transform
from register.workflows import align
from register.workflows.job import Job

TRANSFORM, REPORT, INDEX = "transform.json", "report.html", "index.html"


def redraw(folder: Path, landmarks: str | None = None) -> Path:
    """Draw ``report.html`` of a finished alignment again from its files, and return its path.

    ``landmarks``, as ``FIXED.csv,MOVING.csv``, adds their errors. Raises ``FileError`` when the transform or
    an image cannot be read, or when an image has another size than the one that was aligned.
    """
    path = folder / TRANSFORM
    transform = Transform.load(path)
    if (
        transform.fixed.path is None
        or transform.moving.path is None
        or transform.quality.verdict == "unknown"
    ):
        raise FileError(
            path,
            "does not name the images that it aligns",
            "a report needs a transform that `register align` wrote",
        )
    known = {option.name for option in fields(Settings)}
    chosen = settings.check(
        **{name: value for name, value in transform.provenance.settings.items() if name in known}
    )
    chosen = replace(chosen, landmarks=landmarks or chosen.landmarks)
    pair, levels = align.read_landmarks(chosen), []
    sources = align.open_pair(Job(Path(transform.fixed.path), Path(transform.moving.path), folder, chosen))
    for source, frame in zip(sources, (transform.fixed, transform.moving), strict=True):
        height, width = source.image.size
        if (width, height) != (frame.width, frame.height):
            raise FileError(
                source.path,
                f"is {width} × {height} pixels and was {frame.width} × {frame.height} when it was aligned",
                "align it again",
            )
        levels.append(source.level(working_size(chosen))[0])
    if pair:
        transform = replace(
            transform,
            quality=replace(transform.quality, landmarks=align.landmark_summary(transform, pair, chosen)),
        )
    colours = colour_picture(sources[0].image), colour_picture(sources[1].image)
    scene = Scene.of(levels[0], levels[1], transform, colours)
    entire = scene.entire()
    pictures = compared(scene, entire, Overlays.of(entire))
    write_text(folder / REPORT, page(transform, pictures, details(scene)))
    return folder / REPORT


def finished(folders: list[Path]) -> list[Path]:
    """Folders of finished alignments: the given ones, and those at any depth inside the others.

    Raises ``FileError`` for a folder that holds none.
    """
    found: list[Path] = []
    for folder in folders:
        inside = (
            [folder]
            if (folder / TRANSFORM).exists()
            else sorted(path.parent for path in folder.rglob(TRANSFORM))
        )
        if not inside:
            raise FileError(
                folder,
                "holds no transform.json",
                "name a folder that `register align` or `register batch` wrote",
            )
        found += inside
    return list(dict.fromkeys(found))


def draw_index(folders: list[Path], output: Path | None = None, errors: dict[str, str] | None = None) -> Path:
    """Draw the index of finished alignments and the reports that are missing, and return its path.

    By default it is ``index.html`` in the closest common parent folder.
    """
    if output is None:
        try:
            output = Path(os.path.commonpath([folder.absolute() for folder in folders])) / INDEX
        except ValueError:
            raise RegisterError("the folders share no parent; name the index with --output") from None
    refuse_inputs(output, *(file for folder in folders for file in folder.iterdir()))
    done = [(folder, Transform.load(folder / TRANSFORM)) for folder in folders]
    for folder, transform in done:
        if (
            not (folder / REPORT).exists()
            and transform.quality.verdict != "unknown"
            and transform.provenance.settings.get("report", True)
        ):
            redraw(folder)
    write_text(output, index(done, output.parent.absolute(), errors))
    return output
