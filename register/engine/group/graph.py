"""Which pairs of a set are aligned: neighbours in order, ways around links that are not ok; the order."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from register.engine.group.links import parts
from register.geometry.arrays import Float64

Pair = tuple[int, int]
"""The indices of two images, the first one the fixed image."""
ALL_PAIRS = 6
"""Number of images up to which every pair is aligned."""
REACH = 3
"""Positions beyond an image that are tried where its links to neighbours are not ok."""
GIVE_UP = 3
"""Number of failed links after which an image without an ok one is not linked any more."""
ROUNDS = 200
"""Most rounds of the search for the shortest order."""


def neighbours(order: Sequence[int], count: int) -> list[Pair]:
    """The pairs of images at most ``count`` positions apart."""
    last = len(order)
    return [
        (order[first], order[first + step]) for step in range(1, count + 1) for first in range(last - step)
    ]


def others(order: Sequence[int], verdicts: Mapping[Pair, str]) -> list[Pair]:
    """All other pairs of a small set; those of images whose links have all failed are left out."""
    if len(order) > ALL_PAIRS:
        return []
    tried = {frozenset(pair) for pair in verdicts}
    hopeless = {x for x, own in _of_images(verdicts).items() if len(own) > 1 and set(own) == {"failed"}}
    found = neighbours(order, len(order) - 1)
    return [pair for pair in found if frozenset(pair) not in tried and not hopeless & set(pair)]


def around(order: Sequence[int], verdicts: Mapping[Pair, str]) -> list[Pair]:
    """Pairs that lead around links that are not ``ok``, and that join the parts of the graph.

    Around a link between two positions, the positions next to it are paired; between parts of the graph of
    ``ok`` links, their nearest images. Only pairs at most ``REACH`` positions further apart are returned that
    were not tried.
    """
    place = {image: position for position, image in enumerate(order)}
    tried = {frozenset(pair) for pair in verdicts}
    hopeless = _hopeless(verdicts)
    wanted: list[tuple[int, int]] = []
    for pair, verdict in verdicts.items():
        if verdict != "ok":
            low, high = sorted(place[image] for image in pair)
            steps = [(a, b) for a in range(2) for b in range(2) if a or b]
            wanted += [(low - a, high + b) for a, b in steps if high + b - (low - a) <= REACH + 1]
    wanted += _between(order, place, [pair for pair, verdict in verdicts.items() if verdict == "ok"])
    found = [
        (order[low], order[high]) for low, high in dict.fromkeys(wanted) if low >= 0 and high < len(order)
    ]
    return [pair for pair in found if frozenset(pair) not in tried and not hopeless & set(pair)]


def further(order: Sequence[int], verdicts: Mapping[Pair, str], images: Collection[int]) -> list[Pair]:
    """Pairs of some images that were not tried, with the nearest two on either side of each.

    They are at most ``REACH`` + 1 positions apart. Images that match nothing are left out.
    """
    place, tried = {image: n for n, image in enumerate(order)}, {frozenset(pair) for pair in verdicts}
    hopeless, found = _hopeless(verdicts), list[Pair]()
    for image in images:
        for side in (range(1, REACH + 2), range(-1, -REACH - 2, -1)):
            near = [order[place[image] + step] for step in side if 0 <= place[image] + step < len(order)]
            new = [other for other in near if frozenset((image, other)) not in tried][:2]
            found += [(min(image, other), max(image, other)) for other in new]
    return [pair for pair in dict.fromkeys(found) if not hopeless & set(pair)]


def _hopeless(verdicts: Mapping[Pair, str]) -> set[int]:
    """Images with ``GIVE_UP`` or more failed links and no ok one."""
    found = _of_images(verdicts)
    return {x for x, own in found.items() if own.count("failed") >= GIVE_UP and "ok" not in own}


def _of_images(verdicts: Mapping[Pair, str]) -> dict[int, list[str]]:
    """The verdicts of the links of each image."""
    links: dict[int, list[str]] = {}
    for pair, verdict in verdicts.items():
        for image in pair:
            links.setdefault(image, []).append(verdict)
    return links


def _between(order: Sequence[int], place: Mapping[int, int], good: Collection[Pair]) -> list[Pair]:
    """Positions of the nearest images of different parts of the graph, two on either side."""
    found = []
    positions = [sorted(place[image] for image in part) for part in parts(len(order), list(good))]
    for number, part in enumerate(positions):
        others = sorted(p for other in positions[:number] + positions[number + 1 :] for p in other)
        for position in part:
            below = [p for p in others if p < position][-2:]
            above = [p for p in others if p > position][:2]
            near = [p for p in (*below, *above) if abs(p - position) <= REACH + 1]
            found += [(min(p, position), max(p, position)) for p in near]
    return found


def best_connected(images: Sequence[int], weights: Mapping[Pair, float]) -> list[int]:
    """The images, first the one from which all others are reached over the smallest sum of errors.

    ``weights`` are those of links, the inverse square of their errors; a path's error is the root of the sum
    of squares of those of its links. Of equal images the one with the smaller number comes first.
    """
    index = {image: n for n, image in enumerate(images)}
    distance = np.full((len(images),) * 2, np.inf)
    np.fill_diagonal(distance, 0.0)
    for (one, other), weight in weights.items():
        if one in index and other in index and weight > 0:
            a, b = index[one], index[other]
            distance[a, b] = distance[b, a] = min(distance[a, b], 1 / weight)
    for middle in range(len(images)):  # Floyd and Warshall
        distance = np.minimum(distance, distance[:, middle, None] + distance[None, middle])
    cost = np.sqrt(distance).sum(1)
    return [images[int(n)] for n in np.argsort(np.round(cost, 6), kind="stable")]


def shortest_order(distance: Float64) -> list[int]:
    """The order of images, from their dissimilarities (n, n), in which neighbours are most similar.

    It is a path with a small sum of dissimilarities: the best nearest-neighbour path, improved by reversals
    (2-opt; Croes, "A method for solving traveling-salesman problems", Operations Research 6, 1958) and by
    moves of single images until neither shortens it. The end with the smaller number comes first.
    """
    count = len(distance)
    paths = [_improved(distance, _nearest_path(distance, first)) for first in range(count)]
    best = min(paths, key=lambda path: _length(distance, path))
    return best if best[0] <= best[-1] else best[::-1]


def _nearest_path(distance: Float64, first: int) -> list[int]:
    path, left = [first], set(range(len(distance))) - {first}
    while left:
        nearest = min(sorted(left), key=lambda image: distance[path[-1], image])
        path.append(nearest)
        left.remove(nearest)
    return path


def _improved(distance: Float64, path: list[int]) -> list[int]:
    """A path that no reversal of a part and no move of one image makes shorter."""
    for _ in range(ROUNDS):
        length = _length(distance, path)
        options = [
            path[:low] + path[low:high][::-1] + path[high:]
            for low in range(len(path))
            for high in range(low + 2, len(path) + 1)
        ]
        for at in range(len(path)):
            rest = path[:at] + path[at + 1 :]
            options += [[*rest[:to], path[at], *rest[to:]] for to in range(len(path)) if to != at]
        lengths = _lengths(distance, np.array(options))
        best = int(np.argmin(lengths))
        if lengths[best] >= length - 1e-12:
            break
        path = options[best]
    return path


def _lengths(distance: Float64, paths: NDArray[np.int64]) -> Float64:
    total: Float64 = distance[paths[:, :-1], paths[:, 1:]].sum(1)
    return total


def _length(distance: Float64, path: Sequence[int]) -> float:
    return float(_lengths(distance, np.array([path]))[0])
