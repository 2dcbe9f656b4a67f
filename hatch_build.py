"""Compile the C files of ``register/kernels/c`` into libraries in that folder, one per kind of processor.

Runs when the package is built or installed in place, and as ``python hatch_build.py``. Without a compiler the
package works without libraries: tensors compute the same, more slowly.
"""

import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NATIVE = Path(__file__).parent / "register" / "kernels" / "c"
FLAGS = [
    "-std=gnu11",
    "-O3",
    "-fPIC",
    "-shared",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-fassociative-math",
    "-freciprocal-math",
]
"""Sums may be reordered, so that they can be vectorised; NaN and infinity keep their meaning."""
KINDS = {
    "default": [],
    "avx2": ["-mavx2", "-mfma", "-mtune=haswell"],
    "avx512": [
        "-mavx512f",
        "-mavx512vl",
        "-mavx512bw",
        "-mavx512dq",
        "-mfma",
        "-mtune=skylake-avx512",
        "-mprefer-vector-width=512",
    ],
}
"""Names of processors as ``torch.backends.cpu.get_cpu_capability`` gives them, in lower case, and the
compiler's flags for them. ``-mtune`` decides whether gather instructions are used."""


def compile_all() -> list[Path]:
    """Compile all libraries, with OpenMP where possible; the paths of those that could be compiled."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    kinds = KINDS if platform.machine().lower() in ("x86_64", "amd64") else {"default": []}
    sources = [str(x) for x in sorted(NATIVE.glob("*.c"))]
    made = []
    for name, flags in kinds.items():
        target = NATIVE / f"fused-{name}.so"
        for threads in (["-fopenmp"], []):
            command = [*compiler, *FLAGS, *flags, *threads, "-o", str(target), *sources, "-lm"]
            try:
                subprocess.run(command, check=True, capture_output=True, timeout=300)
            except (OSError, subprocess.SubprocessError) as error:
                print(f"hatch_build.py: {shlex.join(command)}: {error}", file=sys.stderr)
                continue
            made.append(target)
            break
    return made


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the libraries to a wheel, which is then for this platform only."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the libraries; those that cannot be compiled are left out."""
        made = compile_all()
        if not made:
            self.app.display_warning(
                "no library could be compiled with a C compiler: register will use tensors, which are slower"
            )
        elif self.target_name == "wheel":
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{_platform()}"
            build_data["force_include"] |= (
                {str(x): f"register/kernels/c/{x.name}" for x in made} if version != "editable" else {}
            )


def _platform() -> str:
    """The platform tag of a wheel; on macOS the version is that of ``MACOSX_DEPLOYMENT_TARGET``."""
    target = os.environ.get("MACOSX_DEPLOYMENT_TARGET")
    if sys.platform == "darwin" and target:
        return f"macosx_{target.replace('.', '_')}_{platform.machine()}"
    from packaging.tags import platform_tags

    return next(platform_tags())


if __name__ == "__main__":
    print(*compile_all(), sep="\n")
