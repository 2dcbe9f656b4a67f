"""An OME-Zarr whose shards are computed and written by the workers of a Dask cluster.

Each shard is a task of its own; one of a coarser level is made of the written shards of the finer one, as
soon as these are there. The windows, and so the pixels, are those that one machine writes. A shard that is
there already is not computed again, so that the same command continues an interrupted run. A task of a lost
worker runs on another one.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import lru_cache, partial
from itertools import repeat
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from register.errors import FileError, RegisterError
from register.files import remote
from register.io.images import zarr_metadata, zarr_write
from register.io.images.model import Image
from register.io.images.tiff_blocks import smaller_block
from register.workflows.cluster import RETRIES, connected
from register.workflows.local_files import LocalFiles, local_files
from register.workflows.shard_order import Shard, ShardOrder

JOB = "register-job.json"
"""The file in an unfinished hierarchy that tells what is written into it."""
Tick = Callable[[float], None]
"""Called with the fraction that is done."""


class Source(Protocol):
    """What is written: workers make the same image from the same files."""

    def image(self, local: LocalFiles) -> Image:
        """The image, whose pixels are computed when they are read; remote files are copied to ``local``."""

    def described(self, local: LocalFiles) -> str:
        """A text that differs where the pixels may differ."""


def write_on_cluster(
    scheduler: str,
    source: Source,
    output: str,
    layout: zarr_write.ChunkLayout,
    *,
    pyramid: bool,
    nearest: bool,
    overwrite: bool,
    tick: Tick = lambda share: None,
) -> Image:
    """Write an image as OME-Zarr at a path or an address, and return it without computing its pixels here.

    Raises ``RegisterError`` when the scheduler cannot be reached, and for a shard that failed on several
    workers; what is written stays, and the same command continues it. Raises ``FileError`` for a hierarchy
    that exists, unless with ``overwrite``.
    """
    with local_files() as local:
        image = zarr_write.checked(Path(output), source.image(local), layout)
        sizes = zarr_write.level_sizes(image.size) if pyramid else [image.size]
        target = Target(output)
        group, continued = target.begin(source.described(local), image, sizes, layout, overwrite=overwrite)
        order = ShardOrder(image, sizes, layout.shard)
        written = partial(_is_written, target.place, group) if continued else None
        with connected(scheduler) as client:
            sampled = nearest or image.palette is not None or image.dtype == np.bool_
            submit = partial(
                client.submit, write_shard, source, target.place, sampled, pure=False, retries=RETRIES
            )
            for done, _ in enumerate(_computed(client, submit, order, written), 1):
                tick(done / len(order))
        group.attrs.update(zarr_metadata.attributes(image, sizes, target.name, nearest=nearest))
        zarr_metadata.state_contrast(group, image.colour)
        target.end()
        return image


class Target:
    """A hierarchy that is written in parts: at a path under another name until it is complete, at an address
    in its place, where it has no attributes of an image until then."""

    def __init__(self, output: str) -> None:
        self.output = output.rstrip("/")
        self.remote = remote.is_remote(output)
        path = Path(self.output)
        self.place = (
            self.output if self.remote else str(path.with_name(f".{path.name}.unfinished").absolute())
        )
        self.name = self.output.rpartition("/")[2].removesuffix(".zarr").removesuffix(".ome")

    def begin(
        self,
        described: str,
        image: Image,
        sizes: list[tuple[int, int]],
        layout: zarr_write.ChunkLayout,
        *,
        overwrite: bool,
    ) -> tuple[Any, bool]:
        """The group, and whether parts of it are there already. Raises ``FileError`` for another one."""
        text = json.dumps([described, str(image.dtype), image.channels, sizes, repr(layout)])
        job = f"{self.place}/{JOB}"
        continued = remote.exists(job) and remote.read_text(job) == text
        if remote.exists(self.output) and not (self.remote and continued) and not overwrite:
            raise FileError(self.output, "exists already", "use --overwrite or another --output")
        if continued:
            import zarr

            return zarr.open_group(self.place, mode="r+"), True
        if remote.exists(self.place):
            self._remove(self.place)
        group = zarr_write.arrays(self.place, image, sizes, layout)
        if self.remote:
            remote.write_remote_text(text, job)
        else:
            Path(job).write_text(text, encoding="utf-8")
        return group, False

    def end(self) -> None:
        """Give the complete hierarchy its name."""
        if self.remote:
            remote.remove(f"{self.place}/{JOB}")
            return
        Path(self.place, JOB).unlink()
        if Path(self.output).exists():
            self._remove(self.output)
        Path(self.place).rename(self.output)

    def _remove(self, name: str) -> None:
        """Remove a hierarchy, or an unfinished one."""
        if self.remote:
            remote.remove(name)
        elif Path(name).is_dir() and any(Path(name, each).exists() for each in ("zarr.json", ".zgroup", JOB)):
            shutil.rmtree(name)
        else:
            raise FileError(name, "is no zarr, and is not replaced", "use another --output")


def _is_written(place: str, group: Any, shard: Shard) -> bool:
    """Whether a shard is in the store. One of zeros alone is not stored, and is computed again."""
    array = group[str(shard.level)]
    sides = array.shards or array.chunks
    row, column = shard.rows.start // sides[1], shard.columns.start // sides[2]
    channels = range(shard.channels.start, shard.channels.stop)
    keys = [array.metadata.encode_chunk_key((c, row, column)) for c in channels]
    return all(remote.exists(f"{place}/{shard.level}/{key}") for key in keys)


def _computed(
    client: Any,
    submit: Callable[[Shard], Any],
    order: ShardOrder,
    written: Callable[[Shard], bool] | None,
) -> Iterator[None]:
    """Compute shards on the workers, a few for each at a time; those that are written are not computed.

    Raises ``RegisterError`` for a shard that failed.
    """
    from distributed import as_completed

    ahead = 2 * max(1, sum(client.nthreads().values())) + 2
    sent: dict[Any, Shard] = {}
    running = as_completed()  # type: ignore[no-untyped-call]

    def send() -> int:
        """Submit shards, and count those that are there already."""
        there = 0
        while len(sent) < ahead and (shard := order.take()):
            if written and written(shard):
                order.done(shard)
                there += 1
                continue
            future = submit(shard)
            sent[future] = shard
            running.add(future)  # type: ignore[no-untyped-call]
        return there

    try:
        yield from repeat(None, send())
        while sent:
            future = next(running)
            if future.status == "error":
                reason = " ".join(str(future.exception()).split())
                raise RegisterError(
                    f"a shard could not be written: {reason}; run the command again to continue"
                )
            order.done(sent.pop(future))
            future.release()
            yield from repeat(None, 1 + send())
    finally:
        with suppress(Exception):
            client.cancel(list(sent))


def write_shard(source: Any, place: str, sampled: bool, shard: Shard) -> None:
    """Compute one shard and write it; the task of a worker.

    A shard of a coarser level is made of the four of the finer one.
    """
    import zarr

    group: Any = zarr.open_group(place, mode="r+")
    if shard.level == 0:
        pixels = _image(source).pixels[shard.channels, shard.rows, shard.columns]
    else:
        finer = group[str(shard.level - 1)]
        rows, columns = shard.finer(finer.shape[1:])
        pixels = smaller_block(np.asarray(finer[shard.channels, rows, columns]), sampled=sampled)
    group[str(shard.level)][shard.channels, shard.rows, shard.columns] = pixels


_kept = ExitStack()
"""Copies of remote files, as long as this process lives."""


@lru_cache(maxsize=2)
def _image(source: Any) -> Image:
    """The image of a source, opened once for each worker process."""
    made: Image = source.image(_kept.enter_context(local_files()))
    return made.coloured()
