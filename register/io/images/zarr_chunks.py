"""Whether chunks of a zarr array are whole, from the sizes that their compressed data state."""

import bz2
import lzma
import math
import zlib
from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

from register.compute.free_memory import check_memory
from register.errors import FileError
from register.io.images.zarr_places import Place

ADVICE = "copy the folder again, or read what is left with --allow-truncated"
HEAD = 18
"""Bytes that are read of a chunk to know its size."""
BLOSC_HEADER = 16
"""Bytes of a Blosc chunk's header, which states its size when inflated (4 to 8) and its own (12 to 16)."""
ZSTD = b"\x28\xb5\x2f\xfd"
"""First bytes of a Zstandard frame."""
STEP = 1_048_576
"""Bytes that are inflated at a time."""
SUSPICIOUS, MOST = 1032, 2**30
"""Deflate inflates by at most this factor (zlib's technical notes), and bytes that are not suspicious."""
INFLATED = 2
"""Files of chunks have at most this factor of the bytes of their pixels, and ``MOST`` bytes more."""
STREAMS: dict[str, Callable[[], Any]] = {
    "zlib": zlib.decompressobj,
    "gzip": lambda: zlib.decompressobj(wbits=31),
    "bz2": bz2.BZ2Decompressor,
    "lzma": lzma.LZMADecompressor,
}
"""Decompressors that stop after a number of bytes, by the name of the codec."""


def check(place: Place, key: str, array: Any, spans: Iterable[range]) -> None:
    """Raise ``FileError`` unless the chunks that a window touches are whole and inflate to their size.

    ``key`` is that of the array, and ``spans`` are the elements of the window along each axis. A chunk
    without a file is empty, as the format allows. Damage that a codec notices itself is left to it; at an
    address, where each request takes long, only the chunks of Blosc are looked at, which does not notice it.
    """
    codec, blocks = _codec(array), array.shards or array.chunks
    ranges = [range(x.start // n, (x[-1]) // n + 1) for x, n in zip(spans, blocks, strict=True) if len(x)]
    if len(ranges) < len(blocks):
        return
    expected = array.dtype.itemsize
    for side in array.chunks:
        expected *= side
    check_memory(place.named(key), 3 * expected, "write it with smaller chunks")
    if place.remote and codec != "blosc":
        return
    largest = INFLATED * math.prod(blocks) * array.dtype.itemsize + MOST
    for chunk in product(*ranges):
        name = f"{key}/{array.metadata.encode_chunk_key(chunk)}"
        size = place.size(name)
        if size is None:
            continue
        why = _fault(place, name, size, codec, expected)
        if size > largest:
            why = f"is damaged: the chunk has {size:,} bytes, {largest:,} at most are expected"
        if why:
            raise FileError(place.named(name), why, ADVICE)


def whole_rows(place: Place, key: str, array: Any, axes: str, chosen: dict[str, int]) -> int:
    """The number of rows of an array before the first chunk that is not whole, in the chosen planes."""
    side = (array.shards or array.chunks)[axes.index("Y")]
    sizes = dict(zip(axes, array.shape, strict=True))
    for top in range(0, sizes["Y"], side):
        spans = {axis: range(n) for axis, n in sizes.items()}
        spans |= {axis: range(n, n + 1) for axis, n in chosen.items()}
        spans["Y"] = range(top, min(top + side, sizes["Y"]))
        try:
            check(place, key, array, [spans[axis] for axis in axes])
            array[tuple(slice(spans[axis].start, spans[axis].stop) for axis in axes)]
        except Exception:  # codecs raise any exception on damaged chunks
            return top
    return sizes["Y"]


def _codec(array: Any) -> str:
    """The name of the last codec of an array's chunks; ``shard`` where several share a file."""
    if array.shards:
        return "shard"
    last = array.compressors[-1] if array.compressors else None
    name = getattr(last, "codec_id", None) or type(last).__name__.removesuffix("Codec").lower()
    return "raw" if last is None else str(name).removeprefix("numcodecs.")


def _fault(place: Place, name: str, size: int, codec: str, expected: int) -> str | None:
    """What is wrong with the size of a chunk's file; None if nothing is."""
    if not size:
        return "is cut off: the chunk has no bytes"
    if codec == "raw" and size < expected:
        return f"is cut off: the chunk has {size:,} of {expected:,} bytes"
    head = place.content(name, HEAD)
    if codec == "zstd":
        return _too_large(_zstd_size(head), expected)
    if codec == "blosc":
        stated, own = (int.from_bytes(head[at : at + 4], "little") for at in (4, 12))
        if len(head) < BLOSC_HEADER or size < own:
            return f"is cut off: the chunk has {size:,} of {own:,} bytes"
        if stated != expected:
            return f"is damaged: the chunk inflates to {stated:,} bytes, its shape needs {expected:,}"
    if codec in STREAMS and (codec in ("bz2", "lzma") or size * SUSPICIOUS > max(expected, MOST)):
        return _inflated(place.content(name), STREAMS[codec](), expected)
    return None


def _inflated(left: bytes, stream: Any, expected: int) -> str | None:
    """What is wrong with the inflated size of a chunk, found without keeping what is inflated."""
    total = 0
    while total <= expected and not stream.eof:
        found = stream.decompress(left, STEP)
        left = getattr(stream, "unconsumed_tail", b"")
        total += len(found)
        if not found and not left:  # the data end too early, which the codec reports
            break
    return _too_large(total, expected)


def _too_large(stated: int, expected: int) -> str | None:
    """The complaint about a chunk that inflates to more bytes than its shape needs."""
    if stated <= expected:
        return None
    return f"is damaged: the chunk inflates past the {expected:,} bytes of its shape"


def _zstd_size(head: bytes) -> int:
    """The size that a Zstandard frame states (RFC 8878, 3.1.1.1); 0 where it states none."""
    if head[:4] != ZSTD:
        return 0
    flag, single = head[4] >> 6, head[4] >> 5 & 1
    width = (single, 2, 4, 8)[flag]
    at = 5 + (not single) + (0, 1, 2, 4)[head[4] & 3]
    return int.from_bytes(head[at : at + width], "little") + (256 if width == 2 else 0)
