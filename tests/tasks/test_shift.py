"""Drift of answers and features: no alarm where nothing changed, one where it did."""

import numpy as np
import pytest

from stages.tasks.shift import answer_shifts, feature_shift

LABELS = np.array(["cat", "dog", "owl"])


def answers(rng: np.random.Generator, num: int, shares: tuple[float, ...], sureness: float) -> list[tuple]:
    labels = rng.choice(LABELS, num, p=shares)
    return [((label,), (float(rng.beta(sureness, 2)),)) for label in labels]


EQUAL, OTHER = (0.4, 0.4, 0.2), (0.1, 0.4, 0.5)


def test_without_a_change_an_alarm_is_as_rare_as_alpha_says() -> None:
    p = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        found = answer_shifts(answers(rng, 300, EQUAL, 5), answers(rng, 150, EQUAL, 5), None)
        p += [shift.p_value for shift in found.values()]
    assert sum(value < 0.05 for value in p) <= 32  # of 400: 20 expected, four standard deviations of a binomial: 17


@pytest.mark.parametrize(("shares", "sureness", "what"), [(OTHER, 5, "label"), (EQUAL, 2, "score")])
def test_a_change_is_found_where_it_is(shares: tuple[float, ...], sureness: float, what: str) -> None:
    rng = np.random.default_rng(0)
    found = answer_shifts(answers(rng, 300, EQUAL, 5), answers(rng, 150, shares, sureness), None)
    assert found[what].p_value < 1e-4 and found[what].distance > 0.2
    assert all(shift.p_value > 0.01 for other, shift in found.items() if other != what)


def test_images_without_boxes_count() -> None:
    some, none = [(("cat", "dog"), (0.9, 0.8))] * 100, [((), ())] * 100
    found = answer_shifts(some, none, "boxes")
    assert set(found) == {"label", "score", "boxes"}
    assert set(answer_shifts(some, none, "segments")) == {"label", "score", "segments"}
    assert all(shift.distance == 1.0 and shift.p_value < 1e-10 for shift in found.values())


def test_features_that_move_along_one_direction_are_found() -> None:
    false, right = [], []
    for seed in range(50):
        rng = np.random.default_rng(seed)
        scale = np.linspace(3, 0.1, 64)
        known, same = (rng.normal(size=(n, 64)).astype(np.float32) * scale for n in (300, 150))
        false.append(feature_shift(known.astype(np.float32), same.astype(np.float32)).p_value < 0.05)
        moved = same + np.float32(1.5) * (np.arange(64) == 3) * scale
        right.append(feature_shift(known.astype(np.float32), moved.astype(np.float32)).p_value < 0.05)
    assert sum(right) >= 45
    assert sum(false) <= 8  # 2.5 expected, three and a half standard deviations: 5.4
