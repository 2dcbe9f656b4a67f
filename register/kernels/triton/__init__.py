"""The compiled step on a CUDA device, in Triton."""
