"""The device, threads and memory of computations, iterative methods, and CUDA graphs."""
