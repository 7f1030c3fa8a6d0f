"""Calibration against hand-computed answers."""

import numpy as np
import pytest

from stages.metrics.calibration import expected_calibration_error, negative_log_likelihood, reliability_bins


def test_bins_are_open_below_and_closed_above():
    bins = reliability_bins(np.array([0.0, 0.5, 0.50001, 1.0]), np.array([0, 1, 0, 1], bool), num_bins=2)
    assert [b.count for b in bins] == [2, 2]
    assert (bins[0].low, bins[0].high) == (0.0, 0.5)
    assert bins[0].accuracy == 0.5
    assert bins[0].confidence == 0.25


def test_ece_by_hand():
    # (0.4, 0.5]: 0.5 wrong and 0.5 right: gap 0. (0.9, 1]: 0.95 wrong, 1.0 right: |0.5 - 0.975|. Weights 2/4 each.
    bins = reliability_bins(np.array([0.5, 0.5, 0.95, 1.0]), np.array([0, 1, 0, 1], bool), num_bins=10)
    assert expected_calibration_error(bins) == pytest.approx(0.5 * 0.475)


def test_empty_bins_say_nothing():
    bins = reliability_bins(np.array([0.99]), np.array([True]))
    assert len(bins) == 15
    assert all(b.accuracy is None and b.confidence is None for b in bins[:-1])
    assert expected_calibration_error(bins) == pytest.approx(0.01)


def test_a_confidence_rounded_above_one_stays_in_the_last_bin():
    confidence = np.nextafter(np.float32(1), np.float32(2)).reshape(1)
    assert reliability_bins(confidence, np.array([True]))[-1].count == 1


def test_nll_by_hand_and_finite_at_zero():
    probabilities = np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)
    assert negative_log_likelihood(probabilities, np.array([1, 0])) == pytest.approx(-(np.log(0.75) + np.log(0.5)) / 2)
    assert negative_log_likelihood(np.array([[0.0, 1.0]], np.float32), np.array([0])) == pytest.approx(87.336, abs=1e-3)
