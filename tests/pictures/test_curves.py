"""Training curves and precision-recall curves."""

import math

import numpy as np
import pytest

from stages.pictures.curves import curves, precision_recall, smoothed

LOSS = [(step, math.exp(-step / 50) + 0.1 * (step % 3)) for step in range(200)]
HISTORY = {"loss": {"total": LOSS, "box": LOSS[::2]}, "ap": {"val": [(100, 0.2), (200, 0.4)]}}


def test_one_panel_a_quantity(decoded):
    assert decoded(curves({"loss": {"total": LOSS}})).shape == (340, 520, 3)
    assert decoded(curves(HISTORY)).shape == (340, 1040, 3)
    assert decoded(curves({str(i): {"total": LOSS} for i in range(4)})).shape == (680, 1560, 3)


def test_same_bytes_again_and_other_bytes_for_other_values():
    assert curves(HISTORY, {"loss": 0.9}) == curves(HISTORY, {"loss": 0.9})
    assert curves(HISTORY, {"loss": 0.9}) != curves(HISTORY)
    assert curves(HISTORY, {"ap": 0.9}) == curves(HISTORY)


@pytest.mark.parametrize("history", [{}, {"loss": {}}, {"loss": {"total": []}}, {"loss": {"total": [(0, math.nan)]}}])
def test_nothing_recorded_is_a_picture_too(history, decoded):
    assert decoded(curves(history)).shape == (340, 520, 3)


def test_smoothing_by_hand():
    # 2: alone. 4: (0.5·0.5·2 + 0.5·4) / (0.5·0.5 + 0.5).
    assert smoothed([2.0, math.nan, 4.0], 0.5) == pytest.approx([2.0, math.nan, 2.5 / 0.75], nan_ok=True)
    assert smoothed([3.0] * 5, 0.9) == pytest.approx([3.0] * 5)


def test_precision_recall(decoded):
    recall = np.linspace(0, 1, 101)
    per_class = {f"class {k}": {"iou_50": 1 - recall * k / 20, "iou_50_95": 0.9 - recall * k / 20} for k in range(12)}
    image = decoded(precision_recall({**per_class, "absent": None}, recall))
    assert image.shape == (460, 1040, 3)
    assert precision_recall({**per_class, "absent": None}, recall) == precision_recall(per_class, recall)


def test_precision_recall_without_any_truth(decoded):
    assert decoded(precision_recall({"absent": None}, np.linspace(0, 1, 101))).shape == (460, 1040, 3)
