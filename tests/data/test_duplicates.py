"""Duplicates against brute force, on hashes that are random, clustered and all the same."""

from collections import Counter

import numpy as np
import pytest

from stages.data import duplicates


def brute_force(queries, references, max_bits):
    """Smallest distance of each query, and the best reference: smallest hash first, then first position."""
    positions, bits = [], []
    for query in queries.tolist():
        ranked = sorted(((query ^ r).bit_count(), r, i) for i, r in enumerate(references.tolist()))
        is_hit = ranked and ranked[0][0] <= max_bits
        positions.append(ranked[0][2] if is_hit else -1)
        bits.append(ranked[0][0] if is_hit else -1)
    return positions, bits


def clustered(rng, count, num_centres, flips):
    """Hashes that differ from one of a few centres in up to `flips` bits."""
    centres = np.random.default_rng(5).integers(0, 2**64, num_centres, dtype=np.uint64)
    hashes = rng.choice(centres, count)
    for _ in range(flips):
        hashes ^= np.uint64(1) << rng.integers(0, 64, count).astype(np.uint64)
    return hashes


@pytest.mark.parametrize("max_bits", [0, 1, 2, 4, 7, 12, 16])
@pytest.mark.parametrize("flips", [1, 3, 6])
def test_nearest_is_what_comparing_all_pairs_gives(max_bits, flips):
    rng = np.random.default_rng(max_bits + 100 * flips)
    queries, references = clustered(rng, 90, 6, flips), clustered(rng, 140, 6, flips)
    positions, bits = duplicates.nearest(queries, references, max_bits)
    assert (positions.tolist(), bits.tolist()) == brute_force(queries, references, max_bits)
    if max_bits >= 2 * flips:
        assert (positions >= 0).any()


def test_pairs_are_compared_in_blocks_without_a_seam(monkeypatch):
    rng = np.random.default_rng(3)
    queries, references = clustered(rng, 60, 3, 2), clustered(rng, 90, 3, 2)
    whole = duplicates.nearest(queries, references, 4)
    for pairs in (1, 7, 64):
        monkeypatch.setattr(duplicates, "BLOCK_PAIRS", pairs)
        assert all(np.array_equal(a, b) for a, b in zip(duplicates.nearest(queries, references, 4), whole, strict=True))


def test_a_million_flat_images_are_one_comparison():
    flat = np.zeros(1_000_000, np.uint64)
    positions, bits = duplicates.nearest(flat, flat, 4)
    assert not positions.any() and not bits.any()


def test_nothing_is_near_when_one_side_is_empty():
    some, none = np.arange(3, dtype=np.uint64), np.zeros(0, np.uint64)
    assert duplicates.nearest(some, none, 4)[0].tolist() == [-1, -1, -1]
    assert duplicates.nearest(none, some, 4)[0].tolist() == []
    assert duplicates.first_match(np.arange(3), np.zeros(0, np.int64)).tolist() == [-1, -1, -1]


def test_copies_counts_within_the_split():
    rng = np.random.default_rng(0)
    contents, splits = rng.integers(0, 30, 100), rng.integers(0, 3, 100)
    counts = Counter(zip(contents, splits, strict=True))
    assert duplicates.copies(contents, splits).tolist() == [counts[pair] for pair in zip(contents, splits, strict=True)]


def test_first_match_is_the_first():
    assert duplicates.first_match(np.array([7, 8, 9]), np.array([9, 7, 7, 1])).tolist() == [1, -1, 0]


def test_hex_digits_keep_their_order():
    assert duplicates.from_hex(["00000000000000ff", "8000000000000000"]).tolist() == [255, 2**63]
