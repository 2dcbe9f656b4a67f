"""The method: two images and settings in, a transform out. Tensors only, no files."""
