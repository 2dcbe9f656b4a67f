"""The shards of a pyramid, and an order in which each follows the finer ones of which it is made."""

from dataclasses import dataclass
from itertools import product

from register.io.images import zarr_write
from register.io.images.model import Image


@dataclass(frozen=True, eq=False)
class Shard:
    """One shard of one level: its channels, rows and columns. Each is equal to itself alone."""

    level: int
    channels: slice
    rows: slice
    columns: slice

    def finer(self, size: tuple[int, int]) -> tuple[slice, slice]:
        """The rows and columns of which it is made, in the finer level of this height and width."""
        rows, columns = (
            slice(2 * side.start, min(2 * side.stop, whole))
            for side, whole in zip((self.rows, self.columns), size, strict=True)
        )
        return rows, columns


class ShardOrder:
    """Gives the shards that can be made: large ones first, coarser ones as soon as the finer ones are there.

    ``sizes`` are the heights and widths of the levels, finest first, and ``side`` that of a shard.
    """

    def __init__(self, image: Image, sizes: list[tuple[int, int]], side: int) -> None:
        self._shards = [_of_level(image, size, level, side) for level, size in enumerate(sizes)]
        self._coarser: dict[Shard, list[Shard]] = {}
        self._missing: dict[Shard, int] = {}
        self._ready = sorted(self._shards[0].values(), key=_pixels)
        for level, size in zip(self._shards[1:], sizes, strict=False):
            for shard in level.values():
                self._wait(shard, size, side)

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def take(self) -> Shard | None:
        """The next shard, or None where all others wait for some that are taken."""
        return self._ready.pop() if self._ready else None

    def done(self, shard: Shard) -> None:
        """A shard that was taken is written."""
        for coarser in self._coarser.pop(shard, ()):
            self._missing[coarser] -= 1
            if not self._missing[coarser]:
                self._ready.append(coarser)

    def _wait(self, shard: Shard, size: tuple[int, int], side: int) -> None:
        """Let a shard wait for the finer ones, in a level of this size."""
        numbers = [range(each.start // side, -(-each.stop // side)) for each in shard.finer(size)]
        places = list(product(*numbers))
        self._missing[shard] = len(places)
        for row, column in places:
            finer = self._shards[shard.level - 1][shard.channels.start, row, column]
            self._coarser.setdefault(finer, []).append(shard)


def _of_level(
    image: Image, size: tuple[int, int], level: int, side: int
) -> dict[tuple[int, int, int], Shard]:
    """The shards of a level by their first channel, row and column of shards."""
    return {
        (channels.start, rows.start // side, columns.start // side): Shard(level, channels, rows, columns)
        for channels in zarr_write.groups(image)
        for rows, columns in zarr_write.shards(size, side)
    }


def _pixels(shard: Shard) -> int:
    """The pixels of a channel."""
    return (shard.rows.stop - shard.rows.start) * (shard.columns.stop - shard.columns.start)
