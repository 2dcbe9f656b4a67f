"""File formats: images, points, and transforms of other programs."""
