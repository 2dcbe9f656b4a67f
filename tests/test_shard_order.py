"""The order in which the shards of a pyramid are written by several workers."""

import numpy as np
import pytest

from register.io.images import zarr_write
from register.io.images.model import Image
from register.workflows.shard_order import ShardOrder


def covered(level, shape):
    """How often the shards of a level cover each pixel."""
    counts = np.zeros(shape, int)
    for shard in level:
        counts[shard.channels, shard.rows, shard.columns] += 1
    return counts


@pytest.mark.parametrize("size", [(700, 530), (64, 900), (513, 512), (20, 20)])
@pytest.mark.parametrize("colour", ["", "rgb"])
def test_each_follows_the_finer_ones_of_which_it_is_made(size, colour):
    image = Image(np.zeros((3, *size), np.uint8), kind="ome", colour=colour or "grey")
    sizes = zarr_write.level_sizes(size)
    order = ShardOrder(image, sizes, 128)
    there = [np.zeros((3, *each), bool) for each in sizes]
    taken = []
    while (shard := order.take()) is not None:
        if shard.level:
            rows, columns = shard.finer(sizes[shard.level - 1])
            assert there[shard.level - 1][shard.channels, rows, columns].all()
        there[shard.level][shard.channels, shard.rows, shard.columns] = True
        order.done(shard)
        taken.append(shard)
    assert len(taken) == len(order)
    for level, each in enumerate(sizes):
        assert (covered([shard for shard in taken if shard.level == level], (3, *each)) == 1).all()


def test_a_coarser_one_waits_for_all_of_its_finer_ones():
    image = Image(np.zeros((1, 600, 600), np.uint8), kind="ome")
    order = ShardOrder(image, zarr_write.level_sizes((600, 600)), 512)
    first = [order.take() for _ in range(4)]
    assert [shard.level for shard in first] == [0] * 4
    areas = [(s.rows.stop - s.rows.start) * (s.columns.stop - s.columns.start) for s in first]
    assert areas == sorted(areas, reverse=True)  # large ones first, so that workers end together
    assert order.take() is None
    for shard in first[:3]:
        order.done(shard)
        assert order.take() is None
    order.done(first[3])
    assert order.take().level == 1
