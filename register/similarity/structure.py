"""Similarity of edge orientations, independent of the contrast of the edges."""

from register.images import descriptors
from register.similarity import cosine
from register.similarity.base import Similarity

STRUCTURE = Similarity(
    "structure",
    cosine.cosine,
    descriptor=descriptors.orientation,
    compiled="cosine",
    least_gain=cosine.LEAST_GAIN,
)
