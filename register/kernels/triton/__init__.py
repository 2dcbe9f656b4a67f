"""Kernels of an optimisation step for CUDA devices, in Triton."""
