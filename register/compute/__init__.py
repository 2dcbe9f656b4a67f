"""Where and how tensors are computed: device, threads, memory, iteration, CUDA graphs."""
