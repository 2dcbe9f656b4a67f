"""``register movie --volume``: a rigid 3D shift of every volume, then the motion within each plane."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from register.engine.movie import volume
from register.engine.movie.volume import Shift3D
from register.errors import RegisterError
from register.files.atomic import refuse_inputs, write_text
from register.files.tables import table_text
from register.io.movies.adapted import offset_of_lines, shortened, straightened
from register.io.movies.stack import Stack
from register.io.movies.volumes import Resliced, open_planes, write_volumes
from register.io.movies.write import format_of
from register.transforms.quality import Verdict
from register.workflows.movie import run
from register.workflows.movie.checks import check_channels
from register.workflows.movie.greys import grey, with_nan
from register.workflows.movie.job import Movie
from register.workflows.movie.table import Row
from register.workflows.movie.tasks import Channel

TABLE, AVERAGED = "volumes.csv", 12
"""The table of volumes, and the number of volumes of which their reference is made."""
FIELDS = ("volume", "verdict", "reasons", "shift_x", "shift_y", "shift_z", "correlation")


@dataclass(frozen=True)
class VolumeRow:
    """A volume: its verdict with reasons, its shift in pixels and planes, and the correlation with the
    reference there."""

    volume: int
    verdict: str
    reasons: str
    shift: Shift3D


def run_volume(
    movie: Movie,
    *,
    count: int | None = None,
    redo: bool = False,
    tick: Callable[[Row], None] = lambda row: None,
) -> list[VolumeRow]:
    """Align volumes: write a folder ``plane_NN`` for each plane of the reference, ``volumes.csv``, and with
    the format TIFF the aligned volumes as ``aligned.tif``, except on a union canvas, whose size differs from
    plane to plane.

    A volume is read at the depth that its shift gives, interpolated between planes, and the frames at each
    plane are then aligned as a movie of their own. A volume whose shift is not certain has the shift between
    its neighbours and is ``suspect`` at best. Raises ``RegisterError``.
    """
    if movie.also or movie.also_labels or movie.keep_trend or movie.to not in ("mean",):
        raise RegisterError("--volume has no --also, --also-labels and --keep-trend, and the reference mean")
    layout = replace(movie.layout, allow_truncated=movie.settings.allow_truncated)
    with ExitStack() as opened:
        planes = [shortened(one, movie.first) for one in open_planes(movie.sources, layout)]
        for one in planes:
            opened.callback(one.close)
        together = movie.format == "tiff" and movie.settings.canvas != "union"
        if together:
            refuse_inputs(run.target_of(movie), *planes[0].files)
        like = replace(planes[0], step=planes[0].step or movie.interval)
        check_channels([Channel(like, run.target_of(movie), "")], movie.settings, movie.format)
        offset = offset_of_lines(planes[len(planes) // 2], movie.bidirectional)
        planes = [straightened(one, offset) for one in planes]
        shifts = _shifts(planes, movie)
        depths = _between(shifts)
        tables, written = [], list[Path]()
        for number in range(len(planes)):
            source = Resliced(tuple(one.source for one in planes), tuple(number + depths))
            stack = replace(planes[number], source=source)
            own = replace(movie, output=movie.output / f"plane_{number:02d}", bidirectional="0")
            tables.append(run.run(own, count=count, redo=redo, tick=tick, given=stack))
            written.append(run.target_of(own))
        if together:
            compression = format_of(movie.format, movie.settings.compression)[1]
            write_volumes(run.target_of(movie), written, planes[0], compression)
    rows = [_row(index, found, [table[index] for table in tables]) for index, found in enumerate(shifts)]
    write_text(movie.output / TABLE, text_of(rows))
    return rows


def _shifts(planes: list[Stack], movie: Movie) -> list[Shift3D]:
    """The shift of every volume."""

    def read(index: int) -> torch.Tensor:
        frames = [with_nan(grey(one, index, movie.settings, movie.settings.moving_mask)) for one in planes]
        return torch.stack(frames)

    chosen = np.linspace(0, len(planes[0]) - 1, min(AVERAGED, len(planes[0]))).round().astype(int)
    reference = volume.reference_of([volume.prepared(read(n)) for n in sorted(set(chosen.tolist()))])
    found = list[Shift3D]()
    for index in range(len(planes[0])):
        one = read(index)
        found.append(volume.shift_between(reference, volume.prepared(one), volume.step_of(one)))
    return found


def _between(shifts: list[Shift3D]) -> np.ndarray:
    """The depths (n,) of volumes; of uncertain ones those between their neighbours. Raises ``RegisterError``
    where none is certain."""
    good = [index for index, one in enumerate(shifts) if one.certain]
    if not good:
        raise RegisterError("no volume is recognised in another; check the files and the number of planes")
    return np.interp(np.arange(len(shifts)), good, [shifts[index].z for index in good])


def _row(index: int, found: Shift3D, planes: list[Row]) -> VolumeRow:
    """The row of a volume from those of its planes."""
    failed = [number for number, row in enumerate(planes) if row.verdict == Verdict.FAILED]
    ok = sum(row.verdict == Verdict.OK for row in planes)
    reasons = [] if found.certain else ["the shift of the volume is not certain"]
    if ok < len(planes):
        reasons.append(f"{ok} of {len(planes)} planes are ok")
    verdict = Verdict.OK if not reasons else Verdict.SUSPECT
    verdict = Verdict.FAILED if len(failed) == len(planes) else verdict
    return VolumeRow(index, str(verdict), "; ".join(reasons), found)


def text_of(rows: list[VolumeRow]) -> str:
    """The table as CSV."""
    return table_text(list(FIELDS), map(_values, rows))


def _values(row: VolumeRow) -> Sequence[str | int | float | None]:
    """The values of a row, in the order of ``FIELDS``."""
    of = row.shift
    figures = (round(value, 4) for value in (of.x, of.y, of.z, of.correlation))
    return [row.volume, row.verdict, row.reasons, *figures]
