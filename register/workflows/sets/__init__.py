"""Sets of images in one frame: their links, their joint solution, and the files that are written."""
