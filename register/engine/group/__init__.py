"""Sets of images: the graph of their links, and the maps of all images that fit all links best."""
