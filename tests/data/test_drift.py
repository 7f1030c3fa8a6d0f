"""Drift tests against hand-computed answers; planted shifts are found, chance is not."""

import numpy as np
import pytest
from scipy import stats

from stages.data import drift

SEEDS = range(25)


def batches(rng, num_rest=400, num_newest=120):
    return rng.permutation(np.arange(num_rest + num_newest) < num_newest)


def test_distance_of_numbers_is_that_of_their_distribution_functions():
    # At 2 all of the newest and one of four of the rest are counted.
    shift = drift.number_shift(np.array([1.0, 2, 2, 3, 4, 5]), np.array([True, True, False, False, False, False]))
    assert (shift.distance, shift.num_newest, shift.num_rest) == (0.75, 2, 4)


def test_p_of_numbers_agrees_with_the_exact_one():
    rng = np.random.default_rng(1)
    newest, rest = rng.normal(0.3, 1, 150), rng.normal(0, 1, 300)
    shift = drift.number_shift(np.concatenate([newest, rest]), np.arange(450) < 150)
    assert shift.p_value == pytest.approx(stats.ks_2samp(newest, rest, method="exact").pvalue, rel=0.15)


def test_labels_are_compared_by_chi_square():
    # 2x2 table 30 10 / 20 40: chi-square = n (ad - bc)^2 / (row and column sums) by hand.
    codes = np.repeat([0, 1, 0, 1], [30, 10, 20, 40])
    shift = drift.label_shift(codes, 2, np.arange(100) < 40)
    statistic = 100 * (30 * 40 - 10 * 20) ** 2 / (40 * 60 * 50 * 50)
    assert shift.p_value == pytest.approx(stats.chi2.sf(statistic, 1))
    assert shift.distance == pytest.approx(abs(30 / 40 - 20 / 60))


def test_rare_classes_are_joined_so_that_p_can_be_trusted():
    codes = np.arange(1000)  # a thousand classes, each once
    shift = drift.label_shift(codes, 1000, np.arange(1000) % 10 == 0)
    assert 0.99 < shift.p_value <= 1.0 and shift.distance < 0.02


def test_too_few_labels_tell_nothing():
    assert drift.label_shift(np.array([0, 1]), 2, np.array([True, False])).p_value == 1.0
    assert drift.label_shift(np.array([], int), 2, np.array([], bool)).p_value == 1.0
    assert drift.number_shift(np.array([1.0]), np.array([False])).p_value == 1.0


def test_holm_by_hand():
    assert drift.holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert drift.holm([0.9, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize("seed", SEEDS)
def test_chance_is_no_drift(seed):
    rng = np.random.default_rng(seed)
    is_newest = batches(rng)
    numbers, codes = rng.lognormal(6, 0.3, len(is_newest)), rng.zipf(1.5, len(is_newest)).clip(max=50) - 1
    found = [drift.number_shift(numbers, is_newest), drift.label_shift(codes, 50, is_newest)]
    assert min(drift.holm([shift.p_value for shift in found])) > 0.001


@pytest.mark.parametrize("seed", SEEDS[:5])
def test_planted_shifts_are_found(seed):
    rng = np.random.default_rng(seed)
    is_newest = batches(rng)
    numbers = rng.normal(640, 40, len(is_newest)) - 60 * is_newest
    codes = np.where(is_newest & (rng.random(len(is_newest)) < 0.5), 3, rng.integers(0, 10, len(is_newest)))
    for shift in (drift.number_shift(numbers, is_newest), drift.label_shift(codes, 10, is_newest)):
        assert shift.p_value < 1e-6 and shift.distance > 0.3


def test_p_values_are_uniform_when_nothing_changed():
    rng = np.random.default_rng(0)
    p = [drift.label_shift(rng.integers(0, 8, 600), 8, batches(rng, 450, 150)).p_value for _ in range(300)]
    assert stats.kstest(p, "uniform").pvalue > 0.01
