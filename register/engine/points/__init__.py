"""Fields of points: sources found in both images, matched by their arrangement, and the map they agree on."""
