"""The answer of an alignment: the transform, its quality, its file format, and how it resamples an image."""
