"""Find out whether the installed PyTorch is a CPU-only build, without importing it, which takes seconds."""

from importlib.util import find_spec
from pathlib import Path


def built_for_cpu_only() -> bool:
    """Whether the installed PyTorch has neither CUDA nor ROCm; False where that cannot be read."""
    found = find_spec("torch")
    if found is None or found.origin is None:
        return False
    try:
        lines = Path(found.origin).with_name("version.py").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    values = dict(_assigned(line) for line in lines if "=" in line)
    return values.get("cuda") == "None" and values.get("hip", "None") == "None"


def _assigned(line: str) -> tuple[str, str]:
    """Name and value of an assignment, which may have an annotation."""
    name, _, value = line.partition("=")
    return name.partition(":")[0].strip(), value.strip()
