"""Splits by hash: shares as asked, stable under growth, groups whole."""

import hashlib
from collections import Counter

import pytest

from stages.data.splits import DEFAULT_FRACTIONS, parse_split, split_of

HASHES = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(20_000)]


def test_shares_are_as_asked():
    counts = Counter(split_of(sha256, None, DEFAULT_FRACTIONS) for sha256 in HASHES)
    for split, share in DEFAULT_FRACTIONS.items():
        assert counts[split] / len(HASHES) == pytest.approx(share, abs=0.01)


def test_edges():
    fractions = {"train": 0.5, "val": 0.25, "test": 0.25}
    for first, split in [("0", "train"), ("7f", "train"), ("8", "val"), ("bf", "val"), ("c", "test"), ("ff", "test")]:
        assert split_of(first.ljust(64, "f" if len(first) == 2 else "0"), None, fractions) == split


def test_a_share_of_zero_gets_nothing_and_order_does_not_matter():
    a = [split_of(h, None, {"test": 0.3, "val": 0.0, "train": 0.7}) for h in HASHES[:2000]]
    b = [split_of(h, None, {"train": 0.7, "test": 0.3}) for h in HASHES[:2000]]
    assert a == b and set(a) == {"train", "test"}


def test_a_group_stays_together():
    assert len({split_of(h, "video 7", DEFAULT_FRACTIONS) for h in HASHES[:500]}) == 1
    groups = Counter(split_of(HASHES[0], f"video {i}", DEFAULT_FRACTIONS) for i in range(2000))
    assert groups["train"] / 2000 == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(
    ("spec", "fractions"),
    [
        ("train", {"train": 1.0}),
        ("test", {"test": 1.0}),
        ("train=0.8,val=0.1,test=0.1", {"train": 0.8, "val": 0.1, "test": 0.1}),
        ("test=0.2, train=0.8", {"test": 0.2, "train": 0.8}),
    ],
)
def test_spec(spec, fractions):
    assert parse_split(spec) == fractions


@pytest.mark.parametrize(
    "spec",
    ["", "validation", "train=0.8", "train=0.8,val=0.3", "train=a,val=b", "train=2,val=-1", "train=0.5,train=0.5",
     "train=nan,val=1"],
)  # fmt: skip
def test_wrong_spec(spec):
    with pytest.raises(ValueError, match="give train, val or test"):
        parse_split(spec)
