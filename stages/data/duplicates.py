"""Images that occur twice: by their bytes, and by a 64-bit perceptual hash."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

HASH_BITS = 64
BLOCK_PAIRS = 1 << 20  # pairs compared at once: 8 MiB of differences stay in the cache

Hashes = NDArray[np.uint64]
Positions = NDArray[np.int64]


def copies(contents: NDArray[np.int64], splits: NDArray[np.int64]) -> Positions:
    """How often the content of each sample occurs in its own split.

    contents, splits (N,): equal numbers mean equal bytes, equal splits. Returns (N,), at least 1.
    """
    pairs = contents * (splits.max(initial=0) + 1) + splits
    _, group, counts = np.unique(pairs, return_inverse=True, return_counts=True)
    return counts[group]


def first_match(queries: NDArray[np.int64], references: NDArray[np.int64]) -> Positions:
    """Position of the first reference with the same number as each query; -1: there is none."""
    if not len(references):
        return np.full(len(queries), -1)
    unique, first = np.unique(references, return_index=True)
    place = np.searchsorted(unique, queries).clip(max=len(unique) - 1)
    return np.where(unique[place] == queries, first[place], -1)


def nearest(queries: Hashes, references: Hashes, max_bits: int) -> tuple[Positions, Positions]:
    """The most similar reference of each query among those that differ in at most max_bits bits.

    queries (M,), references (N,). Returns positions (M,), -1 where nothing is that similar, and the differing
    bits (M,), -1 likewise; of equally similar references the one with the smallest hash, and of those the first.
    Exact: hashes that differ in at most k bits agree in one of k + 1 bands (Norouzi et al. 2012, section 2).
    """
    unique_queries, inverse = np.unique(queries, return_inverse=True)
    unique_references, first = np.unique(references, return_index=True)
    best = np.full(len(unique_queries), -1)
    best_bits = np.full(len(unique_queries), max_bits + 1)
    for shift, mask in _bands(max_bits + 1):
        for asked, candidates in _buckets((unique_queries >> shift) & mask, (unique_references >> shift) & mask):
            found, bits = _closest(unique_queries[asked], unique_references[candidates])
            place = candidates[found]
            # The bands find candidates in different orders: ties go to the smaller position.
            better = (bits < best_bits[asked]) | ((bits == best_bits[asked]) & (place < best[asked]))
            best[asked[better]] = place[better]
            best_bits[asked[better]] = bits[better]
    hit = best >= 0
    positions = np.where(hit, first[best] if len(first) else -1, -1)
    return positions[inverse], np.where(hit, best_bits, -1)[inverse]


def from_hex(hashes: list[str]) -> Hashes:
    """Hashes of 16 hexadecimal digits as numbers."""
    return np.frombuffer(bytes.fromhex("".join(hashes)), ">u8").astype(np.uint64)


def _bands(count: int) -> list[tuple[np.uint64, np.uint64]]:
    """Shift and mask of each of `count` bands that share the 64 bits evenly."""
    edges = [HASH_BITS * i // count for i in range(count + 1)]
    return [(np.uint64(a), np.uint64((1 << (b - a)) - 1)) for a, b in pairwise(edges)]


def _buckets(queries: Hashes, references: Hashes) -> list[tuple[Positions, Positions]]:
    """Positions of the queries and of the references that share a value, for each value that both have."""
    query_order = np.argsort(queries, kind="stable")
    reference_order = np.argsort(references, kind="stable")
    values = np.intersect1d(queries, references)
    asked = _slices(queries[query_order], values)
    candidates = _slices(references[reference_order], values)
    return [(query_order[a], reference_order[c]) for a, c in zip(asked, candidates, strict=True)]


def _slices(ordered: Hashes, values: Hashes) -> list[slice]:
    starts, ends = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    return [slice(a, b) for a, b in zip(starts, ends, strict=True)]


def _closest(queries: Hashes, references: Hashes) -> tuple[Positions, Positions]:
    """Position and differing bits of the most similar reference of each query; of equals the first."""
    found = np.zeros(len(queries), np.int64)
    bits = np.full(len(queries), HASH_BITS + 1)
    rows = max(1, BLOCK_PAIRS // len(references))
    columns = min(len(references), BLOCK_PAIRS)
    for i in range(0, len(queries), rows):
        for j in range(0, len(references), columns):
            differing = np.bitwise_count(queries[i : i + rows, None] ^ references[None, j : j + columns])
            place = differing.argmin(axis=1)
            least = np.take_along_axis(differing, place[:, None], axis=1)[:, 0]
            better = least < bits[i : i + rows]
            found[i : i + rows] = np.where(better, place + j, found[i : i + rows])
            bits[i : i + rows] = np.where(better, least, bits[i : i + rows])
    return found, bits
