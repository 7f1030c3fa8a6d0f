"""Bootstrap intervals against scipy, theory, and planted differences."""

import numpy as np
import pytest
from scipy import stats

from stages.metrics.bootstrap import ResampledMean, compare, interval, paired_difference, resample_weights


def metric(values, name="top1", keys=None):
    return ResampledMean(tuple(keys or (f"{i:04}" for i in range(len(values)))), {name: np.asarray(values)})


def test_interval_agrees_with_scipy():
    values = np.random.default_rng(0).exponential(size=150)
    found = interval(values, 4000, 0.9, seed=1)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=4000, confidence_level=0.9, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(expected.low, abs=0.015)
    assert found.high == pytest.approx(expected.high, abs=0.015)


def test_same_seed_same_bounds():
    values = np.random.default_rng(0).normal(size=50)
    assert interval(values, 200, 0.95, seed=3) == interval(values, 200, 0.95, seed=3)
    assert interval(values, 200, 0.95, seed=3) != interval(values, 200, 0.95, seed=4)


def test_weights_are_draws_with_replacement_and_chunks_change_nothing(monkeypatch):
    whole = np.concatenate(list(resample_weights(30, 100, seed=0)))
    assert whole.shape == (100, 30)
    assert (whole.sum(axis=1) == 30).all()
    monkeypatch.setattr("stages.metrics.bootstrap.CHUNK_ELEMENTS", 7 * 30)
    chunks = list(resample_weights(30, 100, seed=0))
    assert [len(chunk) for chunk in chunks] == [7] * 14 + [2]
    assert (np.concatenate(chunks) == whole).all()


def test_pairing_sees_a_small_steady_difference():
    noise = np.random.default_rng(0).normal(size=100)
    found = paired_difference(metric(noise + 0.05), metric(noise), 500, 0.95, seed=0)["top1"]
    # Both move with the same images, so that their difference does not move at all.
    assert (found.low, found.high) == (pytest.approx(0.05), pytest.approx(0.05))
    assert found.p == pytest.approx(2 / 501)
    assert interval(noise, 500, 0.95, seed=0).high - interval(noise, 500, 0.95, seed=0).low > 0.3


def test_no_difference_is_not_significant():
    values = np.random.default_rng(0).integers(2, size=80)
    found = paired_difference(metric(values), metric(values), 200, 0.95, seed=0)["top1"]
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1.0)


def test_p_is_near_the_sign_test_s():
    # 16 images became right and 6 wrong: the exact sign test says p = 0.052.
    before, after = np.r_[np.zeros(16), np.ones(6), np.ones(78)], np.r_[np.ones(16), np.zeros(6), np.ones(78)]
    found = paired_difference(metric(after), metric(before), 4000, 0.95, seed=0)["top1"]
    assert found.p == pytest.approx(stats.binomtest(16, 22).pvalue, abs=0.025)


def test_compare_has_every_report_and_the_subject_s_differences():
    generator = np.random.default_rng(0)
    reports = {name: metric(generator.uniform(size=60) < share) for name, share in
               [("before", 0.2), ("scratch", 0.5), ("after", 0.9)]}  # fmt: skip
    result = compare(reports, 300, 0.95, seed=0)
    assert list(result) == ["before", "scratch", "after", "differences"]
    assert list(result["differences"]) == ["after-before", "after-scratch"]
    difference = result["differences"]["after-before"]["top1"]
    assert difference["value"] == pytest.approx(result["after"]["top1"]["value"] - result["before"]["top1"]["value"])
    assert 0 < difference["low"] < difference["value"] < difference["high"]
    expected = paired_difference(reports["after"], reports["before"], 300, 0.95, seed=0)["top1"]
    assert difference == {"value": expected.value, "low": expected.low, "high": expected.high, "p": expected.p}


def test_different_images_are_refused():
    with pytest.raises(ValueError, match="before and after were measured on different images"):
        compare({"before": metric([1, 0]), "after": metric([1, 0], keys=["x", "y"])}, 10, 0.95, seed=0)


def test_nothing_to_measure_gives_none():
    class Empty:
        keys = ("a",)

        def resample(self, weights):
            return {"ap": np.full(len(weights), np.nan)}

    result = compare({"before": Empty(), "after": Empty()}, 10, 0.95, seed=0)
    assert result["after"]["ap"] == {"value": None, "low": None, "high": None}
    assert result["differences"]["after-before"]["ap"] == {"value": None, "low": None, "high": None, "p": None}
