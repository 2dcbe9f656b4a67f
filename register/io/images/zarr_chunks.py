"""Whether chunks of a zarr array are whole, from the sizes that their compressed data state."""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from typing import Any

from register.compute.free_memory import check_memory
from register.errors import FileError

ADVICE = "copy the folder again, or read what is left with --allow-truncated"
HEAD = 18
"""Bytes that are read of a chunk to know its size."""
BLOSC_HEADER = 16
"""Bytes of a Blosc chunk's header, which states its size when inflated (4 to 8) and its own (12 to 16)."""
ZSTD = b"\x28\xb5\x2f\xfd"
"""First bytes of a Zstandard frame."""
STEP = 2**20
"""Bytes that are inflated at a time."""
SUSPICIOUS, MOST = 1032, 2**30
"""Deflate inflates by at most this factor (zlib's technical notes), and bytes that are not suspicious."""
STREAMS: dict[str, Callable[[], Any]] = {
    "zlib": zlib.decompressobj,
    "gzip": lambda: zlib.decompressobj(wbits=31),
    "bz2": bz2.BZ2Decompressor,
    "lzma": lzma.LZMADecompressor,
}
"""Decompressors that stop after a number of bytes, by the name of the codec."""


def check(folder: Path, array: Any, spans: Iterable[range]) -> None:
    """Raise ``FileError`` unless the chunks that a window touches are whole and inflate to their size.

    ``spans`` are the elements of the window along each axis. A chunk without a file is empty, as the format
    allows. Damage that a codec notices itself is left to it.
    """
    codec, blocks = _codec(array), array.shards or array.chunks
    ranges = [range(x.start // n, (x[-1]) // n + 1) for x, n in zip(spans, blocks, strict=True) if len(x)]
    if len(ranges) < len(blocks):
        return
    expected = array.dtype.itemsize
    for side in array.chunks:
        expected *= side
    check_memory(folder, 3 * expected, "write it with smaller chunks")
    for place in product(*ranges):
        path = folder / array.metadata.encode_chunk_key(place)
        why = _fault(path, codec, expected) if path.is_file() else None
        if why:
            raise FileError(path, why, ADVICE)


def whole_rows(folder: Path, array: Any, axes: str, chosen: dict[str, int]) -> int:
    """The number of rows of an array before the first chunk that is not whole, in the chosen planes."""
    side = (array.shards or array.chunks)[axes.index("Y")]
    sizes = dict(zip(axes, array.shape, strict=True))
    for top in range(0, sizes["Y"], side):
        spans = {axis: range(n) for axis, n in sizes.items()}
        spans |= {axis: range(n, n + 1) for axis, n in chosen.items()}
        spans["Y"] = range(top, min(top + side, sizes["Y"]))
        try:
            check(folder, array, [spans[axis] for axis in axes])
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


def _fault(path: Path, codec: str, expected: int) -> str | None:
    """What is wrong with the size of a chunk's file; None if nothing is."""
    size = path.stat().st_size
    if not size:
        return "is cut off: the chunk has no bytes"
    if codec == "raw" and size < expected:
        return f"is cut off: the chunk has {size:,} of {expected:,} bytes"
    with open(path, "rb") as file:
        head = file.read(HEAD)
    if codec == "zstd":
        return _too_large(_zstd_size(head), expected)
    if codec == "blosc":
        stated, own = (int.from_bytes(head[at : at + 4], "little") for at in (4, 12))
        if len(head) < BLOSC_HEADER or size < own:
            return f"is cut off: the chunk has {size:,} of {own:,} bytes"
        if stated != expected:
            return f"is damaged: the chunk inflates to {stated:,} bytes, its shape needs {expected:,}"
    if codec in STREAMS and (codec in ("bz2", "lzma") or size * SUSPICIOUS > max(expected, MOST)):
        return _inflated(path, STREAMS[codec](), expected)
    return None


def _inflated(path: Path, stream: Any, expected: int) -> str | None:
    """What is wrong with the inflated size of a chunk, found without keeping what is inflated."""
    left, total = path.read_bytes(), 0
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
