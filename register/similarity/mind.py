"""Similarity of MIND descriptors: the self-similarity of each pixel's neighbourhood."""

from register.images import descriptors
from register.similarity import cosine
from register.similarity.base import Similarity

MIND = Similarity(
    "mind",
    cosine.cosine,
    descriptor=descriptors.self_similarity,
    compiled="cosine",
    least_gain=cosine.LEAST_GAIN,
)
