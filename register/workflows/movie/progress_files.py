"""What an interrupted run of a movie leaves behind, and whether another run may continue with it."""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from register._version import __version__
from register.errors import FileError
from register.files.atomic import write_text
from register.files.json_text import parse_json
from register.settings import OUTPUT_ONLY
from register.transforms.movie import FrameTransform, MovieTransforms
from register.workflows.movie.job import Movie
from register.workflows.settings_files import hashes

FOLDER, STAMP = "unfinished", "movie.json"
Stamp = dict[str, object]


def stamp_of(movie: Movie, channels: Sequence[tuple[tuple[Path, ...], str]]) -> Stamp:
    """Files with their sizes and times, reference, settings and version: what the results depend on.

    The transforms of another run can be used where ``transforms`` is equal.
    """

    def known(files: Sequence[Path]) -> list[list[object]]:
        return [[str(path), os.stat(path).st_size, os.stat(path).st_mtime_ns] for path in files]

    settings = asdict(movie.settings)
    image = [Path(movie.to)] if Path(movie.to).is_file() else []
    made = {
        "register": __version__,
        "files": known(channels[0][0]),
        "to": movie.to,
        "reference": known(image),
        "settings": {name: value for name, value in settings.items() if name not in OUTPUT_ONLY},
        "others": hashes(movie.settings),
        "layout": asdict(movie.layout),
        "bidirectional": movie.bidirectional,
        "first": movie.first,
    }
    other = [[how, known(files)] for files, how in channels[1:]]
    output = {name: settings[name] for name in OUTPUT_ONLY}
    written = {
        "output": output,
        "format": movie.format,
        "interval": movie.interval,
        "trend": movie.keep_trend,
    }
    stamp = {"transforms": made, "also": other, "bad_frames": movie.bad_frames, **written}
    return json.loads(json.dumps(stamp))


class Unfinished:
    """The folder ``unfinished`` of a run, with the transforms of each chunk of frames, and ``movie.json``."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.folder = output / FOLDER

    def is_finished(self, stamp: Stamp) -> bool:
        """Whether a run with the same inputs and settings was completed."""
        return _read(self.output / STAMP) == stamp

    def begin(self, stamp: Stamp, redo: bool) -> None:
        """Keep the chunks of a run with the same transforms; remove those of another one."""
        before = _read(self.folder / STAMP) or _read(self.output / STAMP)
        if redo or before.get("transforms") != stamp["transforms"]:
            shutil.rmtree(self.folder, ignore_errors=True)
        (self.output / STAMP).unlink(missing_ok=True)
        write_text(self.folder / STAMP, json.dumps(stamp, indent=1))

    def chunks(self, model: str) -> list[list[FrameTransform]]:
        """The transforms of the first chunks, as far as they are known."""
        found = list[list[FrameTransform]]()
        while self._path(len(found)).exists():
            try:
                found.append(list(MovieTransforms.load(self._path(len(found))).frames))
            except FileError:
                break
        return found

    def save(self, number: int, model: str, chunk: list[FrameTransform]) -> None:
        """Write the transforms of a chunk."""
        MovieTransforms(model, tuple(chunk)).save(self._path(number))

    def end(self, stamp: Stamp) -> None:
        """Mark the run as finished."""
        write_text(self.output / STAMP, json.dumps(stamp, indent=1))
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.npz"


def _read(path: Path) -> Stamp:
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
