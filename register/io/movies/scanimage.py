"""What the TIFFs of ScanImage state about their pages: channels, planes, and the time between frames.

Source: the ScanImage BigTIFF specification (docs.scanimage.org).
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from register.errors import FileError
from register.io.movies.layout import Layout, NoPlane


def layout_of(path: Path, tif: tifffile.TiffFile, layout: Layout) -> tuple[Layout, float | None]:
    """The layout with the channels and planes that a file of ScanImage states, unless others are asked for;
    and the seconds between frames of a plane, None where they are not stated.

    Raises ``FileError`` for slow stacks, in which several frames of a plane follow one another.
    """
    state = _state(tif) if tif.is_scanimage else {}
    if not state:
        return layout, None
    saved, stacks = state.get("SI.hChannels.channelSave", 1), bool(state.get("SI.hStackManager.enable"))
    fast = stacks or bool(state.get("SI.hFastZ.enable"))
    channels = int(np.size(saved))
    slices = state.get("SI.hStackManager.numSlices") or state.get("SI.hFastZ.numFramesPerVolume") or 1
    planes = int(slices) if fast else 1
    if planes > 1 and int(state.get("SI.hStackManager.framesPerSlice") or 1) > 1:
        raise FileError(path, "is a slow stack of ScanImage, with several frames of each plane", "split it")
    discarded = int(state.get("SI.hFastZ.numDiscardFlybackFrames") or 0) if fast else 0
    if layout.planes == 1 and layout.channels == 1:
        if (layout.plane or 0) >= planes:
            raise NoPlane(path, f"has no plane {layout.plane}", f"it has {planes}, counted from 0")
        layout = replace(layout, planes=planes + discarded, channels=channels)
    rate = state.get("SI.hRoiManager.scanFrameRate") or 0
    return layout, (planes + discarded) / float(rate) if rate else None


def _state(tif: tifffile.TiffFile) -> Mapping[str, Any]:
    """The settings of the microscope, from the header of the file or the tag Software of its first page."""
    found = (tif.scanimage_metadata or {}).get("FrameData")
    if found:
        return dict(found)
    software = tif.pages.first.software
    return dict(tifffile.matlabstr2py(software)) if software.startswith("SI.") else {}
