"""Open a file with SlideIO in a process of its own first: some damaged files end the process."""

import functools
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys, slideio
slide = slideio.open_slide(sys.argv[1], sys.argv[2])
for number in range(slide.num_scenes):
    scene = slide.get_scene(number)
    level = scene.num_zoom_levels - 1
    size = scene.get_zoom_level_info(level).size
    part = 0, 0, min(size.width, 64), min(size.height, 64)
    scene.read_block_from_level(level, part, channel_indices=[0])
"""
SECONDS = 120
"""Time after which opening a file does not end."""
RAISED = 0, 1
"""Exit statuses of a process that ended by itself: an error that it raised is raised again by who asks."""


def fault(path: Path, driver: str) -> str | None:
    """What is wrong with a file that SlideIO neither opens nor refuses; None for any other one."""
    state = path.stat()
    return _fault(str(path), driver, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _fault(path: str, driver: str, size: int, changed: int) -> str | None:
    """``fault`` of a file of a size that was last changed at a time."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, path, driver], capture_output=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"SlideIO does not open it in {SECONDS} s"
    return None if done.returncode in RAISED else f"SlideIO ends with {done.returncode} on it"
