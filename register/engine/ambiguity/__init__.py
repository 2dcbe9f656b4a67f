"""Ambiguity: other maps that explain two images as well as the one that was found."""
