"""One optimisation step as compiled code: C for a CPU, Triton for a CUDA device."""
