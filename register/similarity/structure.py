"""Similarity of edge orientations, whatever their contrast."""

from register.images import preprocess
from register.similarity import cosine
from register.similarity.base import Similarity

STRUCTURE = Similarity(
    "structure",
    cosine.cosine,
    descriptor=preprocess.orientation,
    compiled="cosine",
    least_gain=cosine.LEAST_GAIN,
)
