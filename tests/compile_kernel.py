"""Compiles the kernel for GPUs that need not be here, up to machine code: ``python tests/compile_kernel.py``. Prints a line for each."""

from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

from register.native import gpu, kernel
from register.native.summed import METRICS

WHOLE = {"width", "height", "moving_width", "moving_height", "rows", "block"}
TABLES = {"cells", "pieces", "firsts"}


def kind(name, constants):
    """The type of an argument, as Triton writes it."""
    return "constexpr" if name in constants else "i32" if name in WHOLE else "*i32" if name in TABLES else "*fp32"


for metric, channels, window in (("ncc", 1, 20), ("structure", 2, 24), ("mind", 8, 16)):
    constants = {"CHANNELS": channels, "WINDOW": window, "COSINE": METRICS[metric] == 1, "SIDE": gpu.SIDE, "LANES": gpu.lanes(window)}
    source = ASTSource(fn=kernel.expand, signature={name: kind(name, constants) for name in kernel.expand.arg_names}, constexprs=constants)
    for capability in (75, 80, 90):
        made = compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": gpu.WARPS, "enable_fp_fusion": True})
        print(f"{metric} for {capability}: {len(made.asm['cubin'])} bytes, {made.metadata.shared} bytes shared")
