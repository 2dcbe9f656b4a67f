"""Compiles the kernels for GPUs that this machine need not have, to machine code: ``python
tests/compile_kernel.py``. Prints a line for each."""

from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

from register.kernels.triton import cells, expand, launch, launch_system, lines

WHOLE_IMAGE = {
    "width",
    "height",
    "moving_width",
    "moving_height",
    "rows",
    "columns",
    "cells",
    "steps",
    "segments",
    "groups",
    "windows",
    "tiles",
    "block",
}
BROKEN = {"origin", "spacing", "origin_x", "origin_y", "spacing_x", "spacing_y", "tolerance"}
TABLES = {"cell_x", "cell_y", "first_x", "first_y", "counter"}
WINDOWS = {"WINDOW": 20, "GROUPS": launch.GROUPS, "SIDE": 3, "WINDOWS": 4}
KINDS = {"CHANNELS": 1, "COSINE": False}, {"CHANNELS": 2, "COSINE": True}, {"CHANNELS": 8, "COSINE": True}
PATCHES = {"N": launch_system.PATCHES, "PROGRAMS": launch_system.PROGRAMS}
KERNELS = [
    (lines.blend, {"N": 128}, {}),
    (expand.ones, {}, {}),
    *(
        (expand.expand, WINDOWS | kind, {"num_warps": launch.GROUPS, "maxnreg": launch.REGISTERS})
        for kind in KINDS
    ),
    (
        lines.gather_columns,
        {"WINDOW": 20, "SPAN": 60, "GROUPS": launch.GROUPS, "N": 16, "LONG": 4},
        {"num_warps": 1},
    ),
    (lines.gather_rows, {"WINDOW": 20, "N": 32}, {"num_warps": 1}),
    (lines.pool, {"BLOCK": 10, "WINDOW": 20, "HOLDS": 16, "SIDE": 64}, {"num_warps": 2}),
    (cells.make, {"N": 8}, {"num_warps": 2}),
    (
        cells.solve,
        PATCHES,
        {
            "num_warps": launch_system.WARPS,
            "maxnreg": launch_system.REGISTERS,
            "launch_cooperative_grid": True,
        },
    ),
    (cells.bend, {"N": 128}, {}),
]


def kind(name, constants):
    """The type of an argument, as Triton writes it."""
    known = ((constants, "constexpr"), (WHOLE_IMAGE, "i32"), (BROKEN, "fp32"), (TABLES, "*i32"))
    return next((said for names, said in known if name in names), "*fp32")


for function, constants, options in KERNELS:
    source = ASTSource(
        fn=function,
        signature={name: kind(name, constants) for name in function.arg_names},
        constexprs=constants,
    )
    for capability in (75, 80, 90):
        made = compile(source, target=GPUTarget("cuda", capability, 32), options=options)
        carried = [loop.split("->")[0].count(" = %") for loop in made.asm["ttir"].split("iter_args(")[1:]]
        print(f"{function.__name__} for {capability}: {len(made.asm['cubin'])} bytes, loops carry {carried}")
