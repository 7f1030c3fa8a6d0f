"""Rules of the gate, against distributions with a known answer."""

import numpy as np
import pytest

from stages.metrics import gate
from stages.metrics.bootstrap import ResampledMean

ALPHA, RESAMPLES = 0.05, 1000


def pair(champion: np.ndarray, challenger: np.ndarray) -> gate.Pair:
    keys = tuple(f"{i:05d}" for i in range(len(champion)))
    return gate.Pair(ResampledMean(keys, {"top1": champion}), ResampledMean(keys, {"top1": challenger}))


def outcomes(wins: int, losses: int, both: int, neither: int) -> gate.Pair:
    """Images that only the challenger, only the champion, both or neither get right."""
    champion = np.repeat([0, 1, 1, 0], [wins, losses, both, neither])
    challenger = np.repeat([1, 0, 1, 0], [wins, losses, both, neither])
    return pair(champion, challenger)


def test_the_bounds_are_those_of_the_normal_approximation() -> None:
    judged = gate.difference(outcomes(60, 40, 700, 200), "top1", ALPHA, 4000, seed=0)
    assert judged.value == pytest.approx(0.02)
    # Paired: the variance of the per-image difference, (wins + losses) / N - mean^2.
    half_width = 1.6449 * np.sqrt((0.1 - 0.02**2) / 1000)
    assert judged.low == pytest.approx(0.02 - half_width, abs=0.0015)
    assert judged.high == pytest.approx(0.02 + half_width, abs=0.0015)


@pytest.mark.parametrize(
    ("wins", "losses", "rule", "margin", "passes"),
    [
        (100, 20, "superior", 0.0, True),
        (60, 55, "superior", 0.0, False),
        (60, 55, "non_inferior", 0.02, True),
        (20, 60, "non_inferior", 0.02, False),
        (0, 0, "superior", 0.0, False),  # the same answers are not better
        (0, 0, "non_inferior", 0.0, False),  # a margin of nothing asks for a proof of better
        (0, 0, "non_inferior", 0.001, True),
    ],
)
def test_superior_asks_for_a_proof_and_non_inferior_for_a_bound(
    wins: int, losses: int, rule: str, margin: float, passes: bool
) -> None:
    sample = outcomes(wins, losses, 700, 300 - wins - losses)
    check = gate.main_check(sample, "top1", rule, margin, ALPHA, RESAMPLES, seed=0)
    assert check.passed is passes
    assert check.numbers["num_images"] == 1000
    assert check.numbers["difference"] == pytest.approx((wins - losses) / 1000)


def test_a_slice_blocks_only_when_its_loss_is_large_and_beyond_chance() -> None:
    slices = {
        "class=lost": outcomes(0, 30, 60, 10),
        "class=noisy": outcomes(4, 10, 10, 6),  # -0.2 of 30 images: within chance at 0.05 / 3
        "class=slight": outcomes(0, 30, 900, 70),  # -0.03: beyond chance, under the margin
        "class=rare": outcomes(0, 9, 0, 0),
    }
    checks = gate.slice_checks(slices, "top1", 0.05, 20, ALPHA, RESAMPLES, seed=0)
    assert {check.rule: check.passed for check in checks} == {
        "slice class=lost": False,
        "slice class=noisy": True,
        "slice class=slight": True,
        "slice class=rare": None,
    }


def test_a_cost_has_an_absolute_and_a_relative_limit() -> None:
    assert gate.ratio_check("latency", 10.0, 14.0, "ms", None, 1.5).passed is True
    assert gate.ratio_check("latency", 10.0, 16.0, "ms", None, 1.5).passed is False
    assert gate.ratio_check("latency", 10.0, 14.0, "ms", 12.0, 1.5).passed is False
    assert gate.ratio_check("latency", 10.0, 99.0, "ms", None, None) is None


def test_models_on_other_images_are_not_compared() -> None:
    other = gate.Pair(ResampledMean(("a",), {"top1": np.ones(1)}), ResampledMean(("b",), {"top1": np.ones(1)}))
    with pytest.raises(ValueError, match="different images"):
        gate.difference(other, "top1", ALPHA, 200, seed=0)
