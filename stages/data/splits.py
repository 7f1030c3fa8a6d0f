"""Which split a sample belongs to: by its own hash, so that it never moves when the dataset grows."""

import hashlib
import math
from collections.abc import Mapping

SPLITS = ("train", "val", "test")
DEFAULT_FRACTIONS: Mapping[str, float] = {"train": 0.8, "val": 0.1, "test": 0.1}


def split_of(sha256: str, group: str | None, fractions: Mapping[str, float]) -> str:
    """The split of an image with this sha256; all of a group go together.

    The hash is read as a number in [0, 1) and compared with the cumulated fractions, train first, then val, then test.
    """
    digest = sha256 if group is None else hashlib.sha256(group.encode()).hexdigest()
    place = int(digest[:13], 16) / 16**13
    used = [split for split in SPLITS if fractions.get(split, 0.0) > 0.0]
    edge = 0.0
    for split in used[:-1]:
        edge += fractions[split]
        if place < edge:
            return split
    return used[-1]


def parse_split(spec: str) -> dict[str, float]:
    """Fractions from `train` (all of it) or `train=0.8,val=0.1,test=0.1`; ValueError on anything else."""
    if spec in SPLITS:
        return {spec: 1.0}
    pairs = [part.partition("=") for part in spec.split(",")]
    try:
        fractions = {name.strip(): float(share) for name, _, share in pairs}
    except ValueError:
        fractions = {}
    known = set(fractions) <= set(SPLITS) and len(fractions) == len(pairs)
    if not known or not fractions or min(fractions.values()) < 0.0 or not math.isclose(sum(fractions.values()), 1.0):
        raise ValueError(f"split {spec!r}: give train, val or test, or fractions of 1 as in train=0.8,val=0.1,test=0.1")
    return fractions
