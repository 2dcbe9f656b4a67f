"""The shifts that suite2p finds in a movie; ``benchmarks.movie`` runs this with suite2p's own environment.

    python benchmarks/suite2p_shifts.py MOVIE.tif EVERY OUT.npz

Packages that suite2p needs for finding and showing cells, and not for registration, need not be installed.
"""

import sys
import time
from unittest.mock import MagicMock

import numpy as np
import tifffile
import torch

for missing in (
    "cellpose",
    "cellpose.metrics",
    "fastremap",
    "ScanImageTiffReader",
    "sbxreader",
    "dcimg",
    "nd2",
    "mbf_reader",
    "natsort",
):
    sys.modules.setdefault(missing, MagicMock())

from suite2p.registration import register  # noqa: E402


def main() -> None:
    path, every, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    with tifffile.TiffFile(path) as file:
        frames = np.stack([file.pages[n].asarray() for n in range(0, len(file.pages), every)])
    frames = (frames // 2).astype(np.int16)  # as it reads 16 bits itself
    begin, used = time.perf_counter(), time.process_time()
    *_, offsets, blocks, _, _, _ = register.register_frames(
        frames.copy(), frames[0], device=torch.device("cpu")
    )
    seconds, cpu = time.perf_counter() - begin, time.process_time() - used
    down, across, _, down_of_blocks, across_of_blocks = offsets[:5]
    rows, columns = blocks[2]
    shape = (len(frames), rows, columns)
    np.savez(
        out,
        seconds=seconds,
        cpu=cpu,
        rigid=np.stack([across, down], 1),
        blocks=np.stack([across_of_blocks.reshape(shape), down_of_blocks.reshape(shape)], -1),
        x=np.array(blocks[1][:columns]).mean(1).astype(int),
        y=np.array(blocks[0][::columns]).mean(1).astype(int),
    )


if __name__ == "__main__":
    main()
