"""Find the channel that two images have in common, by its name."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

RESERVED = ("gray", "mean", "max", "density")
"""Words that choose a conversion to grey, not a channel of that name."""
DYE = re.compile(r"(?<![a-z])(dapi|hoechst|draq5)(?=$|[^a-z]|(?:r|c|t|rd|cyc|cycle|round)\d)")
"""The name of a nuclear dye in that of a channel, such as ``R1_DAPI``, ``dapi-02`` or ``Hoechst33342``."""
STAINS = {"dna", "nuclei", "nucleus", "nuclear"}
ROUNDS = {"round", "cycle", "cyc", "rd", "r", "c", "ch", "t"}
"""Words of which a channel's name consists that is a nuclear stain too, unlike the antibody DNA-PK."""


@dataclass(frozen=True)
class Common:
    """The channels of two images that are compared, by name, and all names that both have."""

    fixed: str | None
    moving: str | None
    shared: tuple[str, ...] = ()


def is_nuclear(name: str) -> bool:
    """Whether the name of a channel is that of a nuclear stain, with or without those of rounds."""
    plain = name.strip().casefold()
    words = set(re.findall(r"[^\W\d_]+", plain))
    return bool(DYE.search(plain) or (words & STAINS and words <= STAINS | ROUNDS))


def common(fixed: Sequence[str], moving: Sequence[str]) -> Common:
    """The channels to compare of two images, from the names of their channels; None without one in common.

    They are the first shared name that is nuclear, else the nuclear channels of both, else the only name that
    both share. Case and surrounding blanks are ignored.
    """
    one, other = _named(fixed), _named(moving)
    shared = tuple(one[key] for key in one if key in other)
    for name in shared:
        if is_nuclear(name):
            return Common(name, other[_key(name)], shared)
    nuclear = [next((name for name in names.values() if is_nuclear(name)), None) for names in (one, other)]
    if None not in nuclear:
        return Common(nuclear[0], nuclear[1], shared)
    if len(shared) == 1:
        return Common(shared[0], other[_key(shared[0])], shared)
    return Common(None, None, shared)


def _named(names: Sequence[str]) -> dict[str, str]:
    """Names of channels by their keys, without reserved ones and those that several channels have."""
    keys = [_key(name) for name in names]
    return {
        key: name
        for key, name in zip(keys, names, strict=True)
        if key and keys.count(key) == 1 and key not in RESERVED
    }


def _key(name: str) -> str:
    return name.strip().casefold()
