"""Rotations under which content repeats: gears, flowers, wheels, sections of stems, hexagonal lattices.

A centre about which the fixed image, or parts of it, may be rotated is found with a few rotations by an
n-th of a turn on a small level. The images are then compared around it in polar coordinates, where all
rotations are shifts along one axis.
"""

import math

import torch
from torch import Tensor

from register.engine.ambiguity import candidates
from register.engine.ambiguity.candidate import (
    LEAST_SCORE,
    NEARLY,
    Candidate,
    about,
    between,
    correlation,
    peaks,
)
from register.engine.fit import comparison, global_fit
from register.geometry import affine, affine_tensors
from register.images import descriptors, interpolation, preprocess
from register.images.pyramid import Level

SCANNED_ANGLES = (60.0, *(360 * (fold // 2) / fold for fold in (2, 3, 5, 7, 11, 13, 17, 19, 23)))
"""Rotations, in degrees, that show whether there is a centre of symmetry: a symmetry of another order has one
of them among its powers, or so many repeats that a small level does not resolve them. Those near to half a
turn tell best where the centre is."""
SCANNED, FAR = 64, 24
"""Longest side, in pixels, of the level on which centres are looked for, and the most pixels by which they
shift the image."""
AROUND = 384
"""Longest side, in pixels, of the level that is compared in polar coordinates."""
CENTRES = 3
"""Centres that are looked at, those of the highest correlation."""
SAME_CENTRE = 3.0
"""Pixels of the small level within which two centres are one."""
RADII, ANGLES, LEAST_RADIUS = 96, 1024, 0.06
"""Rows and columns of the polar images, and the smallest radius as a share of the largest one."""
LEAST_ANGLE = 2.5
"""Degrees below which a further rotation is none."""
WHOLE, BEYOND = 0.75, 1.4
"""Share of a circle that must lie in both images for its radius to count, and the radius of which so much can
at most lie in an image, in distances from its nearest side."""
KEPT = 6
"""Rotations kept about a centre of the smallest, and of those of the highest correlation."""


def rotations(fixed: Level, moving: Level, matrix: Tensor, most: float) -> list[Candidate]:
    """Maps that rotate further than a map (2, 3) about a centre, and are nearly as similar in correlation.

    ``most`` is the largest rotation of a map, in degrees, either way.
    """
    small = global_fit.at_side(fixed, SCANNED)
    pad = min(FAR, max(small.size) // 2)
    score = correlation(small, moving, matrix, pad)
    own = float(score[pad - 1 : pad + 2, pad - 1 : pad + 2].max())
    if own <= LEAST_SCORE:
        return []
    level, turned = global_fit.at_side(fixed, AROUND), affine.decompose(matrix).rotation
    found = []
    for centre in _centres(small, moving, matrix, pad, own):
        angles = [
            (angle, share)
            for angle, share in _angles(level, moving, matrix, centre)
            if abs((turned + angle + 180) % 360 - 180) <= most
        ]
        nearest = sorted(angles, key=lambda each: abs((turned + each[0] + 180) % 360 - 180))[:KEPT]
        highest = sorted(angles, key=lambda each: -each[1])[:KEPT]
        found += [
            Candidate(about(matrix, centre, angle), own * share)
            for angle, share in dict.fromkeys([*nearest, *highest])
        ]
    return found


def _centres(small: Level, moving: Level, matrix: Tensor, pad: int, own: float) -> list[Tensor]:
    """Centres (2,), in original fixed pixels, about which an n-th of a turn is nearly as similar, and the one
    about which it is most similar: of an outline whose many parts the level does not resolve."""
    height, width = small.size
    middle = torch.tensor([[(width - 1) / 2, (height - 1) / 2]], dtype=torch.float64)
    start, found = candidates.centre_of(small)[0], list[tuple[float, Tensor]]()
    for angle in SCANNED_ANGLES:
        score = correlation(small, moving, about(matrix, start, angle), pad)
        rows, columns = peaks(score, 2)
        values = score[rows, columns]
        for number in values.argsort(descending=True)[:2].tolist():
            shift = _summit(score, int(rows[number]), int(columns[number])) - pad
            found.append((float(values[number]), middle[0] + _fixed_point(angle, shift)))
    found.sort(key=lambda each: -each[0])
    kept = list[Tensor]()
    for value, centre in found:
        if kept and value < NEARLY * own:
            break
        inside = bool(((centre >= 0) & (centre <= 2 * middle[0])).all())
        if inside and all(float((centre - other).norm()) > SAME_CENTRE for other in kept):
            kept.append(centre)
    return [affine.apply(small.original_from_level, each[None])[0] for each in kept[:CENTRES]]


def _summit(score: Tensor, row: int, column: int) -> Tensor:
    """Where (2,), x and y, the maximum of (h, w) near a pixel is, by a parabola along each axis."""
    place = []
    for line, at in ((score[row], column), (score[:, column], row)):
        before, top, after = (float(line[n]) for n in (max(at - 1, 0), at, min(at + 1, len(line) - 1)))
        bend = before - 2 * top + after
        place.append(at + (0.5 * (before - after) / bend if bend < 0 else 0.0))
    return torch.tensor(place, dtype=torch.float64)


def _fixed_point(angle: float, shift: Tensor) -> Tensor:
    """The point (2,) that a rotation about the origin after a shift (2,) leaves where it is."""
    turn = affine_tensors.similarity(math.radians(angle), 1.0, shift * 0, shift * 0)[:, :2]
    return torch.linalg.solve(torch.eye(2, dtype=turn.dtype) - turn, turn @ shift)


def _angles(level: Level, moving: Level, matrix: Tensor, centre: Tensor) -> list[tuple[float, float]]:
    """Further rotations about a centre, in degrees, at which the correlation has maxima that are nearly as
    high as at none, and their heights as shares of that."""
    score = _polar(level, moving, matrix, centre)
    own = float(score[[-1, 0, 1]].max())
    if own <= 0:
        return []
    highest = torch.stack([score.roll(step) for step in range(-3, 4)]).amax(0)
    angles = torch.arange(ANGLES, device=score.device) * (360 / ANGLES)
    far = (angles - 360 * (angles > 180)).abs() > LEAST_ANGLE
    chosen = torch.nonzero((score == highest) & (score > NEARLY * own) & far)[:, 0]
    return [(float(angles[n]), float(score[n]) / own) for n in chosen.tolist()]


def _polar(level: Level, moving: Level, matrix: Tensor, centre: Tensor) -> Tensor:
    """The normalised correlation (a,) of structure at further rotations by 0, 1/a, 2/a, … of a turn."""
    down = affine.invert(level.original_from_level)
    x, y = affine.apply(down, centre[None])[0].tolist()
    height, width = level.size
    largest = BEYOND * min(x, width - 1 - x, y, height - 1 - y)
    matched = comparison.match_pixel_size(moving, level, matrix)
    to_moving = between(level, matched, matrix)
    device = level.image.device
    angle = torch.arange(-ANGLES // 8, ANGLES + ANGLES // 8, device=device) * (2 * math.pi / ANGLES)
    radius = torch.linspace(LEAST_RADIUS, 1, RADII, device=device)[:, None] * largest
    points = torch.stack([x + radius * torch.cos(angle), y + radius * torch.sin(angle)], -1)[None]
    ours, solid = _structure(level, points)
    theirs, solid_moving = _structure(matched, affine.apply(to_moving[None, None].to(points), points))
    whole = torch.minimum(solid.mean(-1, keepdim=True), solid_moving.mean(-1, keepdim=True)) > WHOLE
    weight = radius.sqrt() * whole
    f, g, f_energy, g_energy, f_mask, g_mask = (
        torch.fft.rfft((plane * weight)[0])
        for plane in (ours, theirs, *(x.square().sum(1, True) for x in (ours, theirs)), solid, solid_moving)
    )

    def correlated(one: Tensor, other: Tensor) -> Tensor:
        return torch.fft.irfft((one.conj() * other).sum((0, 1)), n=ANGLES)

    one, other = correlated(f_energy, g_mask), correlated(f_mask, g_energy)
    product = (one.clamp(min=0) * other.clamp(min=0)).sqrt()
    return correlated(f, g) / product.clamp(min=1e-3 * float(product.max()) + 1e-9)


def _structure(level: Level, points: Tensor) -> tuple[Tensor, Tensor]:
    """Orientation structure (1, 2, r, a) of a level at polar points, and where it is valid (1, 1, r, a)."""
    inside = interpolation.inside(points, *level.size)[:, None]
    valid = (interpolation.sample(level.mask[None], points) * inside > 0.99).to(level.image)
    found = descriptors.orientation(interpolation.sample(level.image[None], points), valid)
    solid = preprocess.erode(valid, 3)
    kept = slice(ANGLES // 8, ANGLES // 8 + ANGLES)  # the turn, without what continues it at both ends
    return (found * solid)[..., kept], solid[..., kept]
