"""Bar charts of models, classes and calibration."""

import numpy as np
import pytest

from stages.metrics.bootstrap import ResampledMean, compare
from stages.metrics.calibration import expected_calibration_error, reliability_bins
from stages.pictures.bars import comparison, per_class, reliability
from stages.pictures.figure import COLOURS


def has_colour(image, colour):
    return (image == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=2).any()


def compared(models=("before", "scratch", "after")):
    generator = np.random.default_rng(0)
    keys = [str(i) for i in range(50)]
    reports = {name: ResampledMean(keys, {"top1": generator.uniform(size=50) < 0.7}) for name in models}
    return compare(reports, 100, 0.95, seed=0)


def test_comparison_has_a_bar_a_model(decoded):
    image = decoded(comparison(compared()))
    assert [has_colour(image, colour) for colour in COLOURS[:4]] == [True, True, True, False]
    assert comparison(compared()) == comparison(compared())


def test_comparison_of_one_model(decoded):
    assert has_colour(decoded(comparison(compared(("after",)))), COLOURS[0])


def test_comparison_leaves_out_what_was_not_measured(decoded):
    result = compared(("before", "after"))
    result["before"]["top1"] = dict.fromkeys(("value", "low", "high"))
    result["differences"]["after-before"]["top1"] = dict.fromkeys(("value", "low", "high", "p"))
    assert decoded(comparison(result)).shape[1] == 620


@pytest.mark.parametrize(("num_classes", "height_px"), [(3, 206), (50, 1710), (200, 1710)])
def test_per_class_grows_with_the_classes_up_to_fifty(num_classes, height_px, decoded):
    scores = {f"class {c}": {"precision": c / 200, "recall": None if c == 1 else 0.5} for c in range(num_classes)}
    image = decoded(per_class(scores, ("precision", "recall")))
    assert image.shape == (height_px, 760, 3)
    assert has_colour(image, COLOURS[1])


def test_classes_without_truth_are_left_out_of_the_worst():
    scores = {f"class {c}": {"f1": c / 100} for c in range(60)}
    assert per_class({**scores, "absent": {"f1": None}}, ("f1",)) == per_class(scores, ("f1",))


def test_per_class_with_nothing_known(decoded):
    assert decoded(per_class({"absent": {"f1": None}}, ("f1",))).shape == (130, 760, 3)


def test_reliability(decoded):
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0.3, 1, 400)
    bins = reliability_bins(confidence, generator.uniform(size=400) < confidence**2)
    data = reliability([b.to_json() for b in bins], expected_calibration_error(bins))
    assert decoded(data).shape == (600, 520, 3)
    assert has_colour(decoded(data), COLOURS[5])
    assert data == reliability([b.to_json() for b in bins], expected_calibration_error(bins))
