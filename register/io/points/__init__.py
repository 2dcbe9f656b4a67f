"""Point and landmark files in and out."""
