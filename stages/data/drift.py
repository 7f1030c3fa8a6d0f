"""Whether the newest batch of a dataset looks like the rest: two-sample tests of its sizes and labels.

A tiny change in a million samples is significant and harmless, so a shift has a size, too: the largest difference of
the two distributions, 0 to 1. Observations must be independent of each other; objects of one image are not, so callers
test one of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

MIN_EXPECTED = 5.0  # observations a cell: the usual bound under which chi-square's p can't be trusted (Cochran 1954)


@dataclass(frozen=True)
class Shift:
    """How far two samples are apart, and how probable that is when nothing changed."""

    distance: float  # 0: the same, 1: disjoint
    p_value: float
    num_newest: int
    num_rest: int


def number_shift(values: NDArray[np.floating], is_newest: NDArray[np.bool_]) -> Shift:
    """Kolmogorov-Smirnov test of a measured quantity, values (N,); distance: of the distribution functions."""
    newest, rest = values[is_newest], values[~is_newest]
    if not len(newest) or not len(rest):
        return Shift(0.0, 1.0, len(newest), len(rest))
    # The exact method takes minutes at 10,000 values; this one is a little conservative for a handful.
    result = stats.ks_2samp(newest, rest, method="asymp")
    return Shift(float(result.statistic), float(result.pvalue), len(newest), len(rest))


def label_shift(classes: NDArray[np.int64], num_classes: int, is_newest: NDArray[np.bool_]) -> Shift:
    """Chi-square test of class numbers (N,) in [0, num_classes); distance: total variation.

    Neighbouring classes are joined until each cell may expect 5 observations in both samples.
    """
    counts = np.stack([np.bincount(classes[mask], minlength=num_classes) for mask in (is_newest, ~is_newest)])
    num_newest, num_rest = (int(n) for n in counts.sum(axis=1))
    cells = _joined(counts)
    if cells.shape[1] < 2:
        return Shift(0.0, 1.0, num_newest, num_rest)
    shares = cells / cells.sum(axis=1, keepdims=True)
    distance = np.abs(shares[0] - shares[1]).sum() / 2
    return Shift(float(distance), float(stats.chi2_contingency(cells, correction=False).pvalue), num_newest, num_rest)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values adjusted so that the chance of any false alarm among them stays the threshold (Holm 1979)."""
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1.0)
    return [float(v) for v in adjusted]


def _joined(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts (2, C) with neighbouring columns summed until both rows may expect MIN_EXPECTED in each."""
    total = counts.sum()
    if total == 0:
        return counts[:, :0]
    expected = counts.sum(axis=0) * (counts.sum(axis=1).min() / total)
    starts, gathered = [0], 0.0
    for i, amount in enumerate(expected[:-1], start=1):
        gathered += amount
        if gathered >= MIN_EXPECTED:
            starts.append(i)
            gathered = 0.0
    if gathered + expected[-1] < MIN_EXPECTED and len(starts) > 1:
        starts.pop()
    return np.add.reduceat(counts, starts, axis=1)
