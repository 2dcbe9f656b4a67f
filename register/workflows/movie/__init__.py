"""Movies: frames in, aligned frames, transforms, a table and a page out."""
