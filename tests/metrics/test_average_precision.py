"""AP over resamples against pycocotools on datasets in which images stand several times."""

import dataclasses
import time

import numpy as np
import pytest

from stages.metrics.average_precision import RECALLS, hits_needed
from stages.metrics.bootstrap import compare
from stages.metrics.detection import DetectionMetric, Prediction, Target


def random_metric(num_images, num_classes=3, most_detections=30, seed=0):
    """Noisy copies of random boxes, false alarms, crowds and empty images; scores never equal."""
    generator = np.random.default_rng(seed)
    metric = DetectionMetric([f"class {c}" for c in range(num_classes)])
    for i in range(num_images):
        num_truth, num_false = generator.integers(0, most_detections // 2, 2)
        corners = generator.uniform(0, 400, (num_truth, 2))
        truth = np.hstack([corners, corners + generator.uniform(20, 120, (num_truth, 2))])
        labels = generator.integers(num_classes, size=num_truth)
        false = generator.uniform(0, 200, (num_false, 4)) + np.array([0, 0, 200, 200])
        metric.update(
            [
                Prediction(
                    f"{i:03}",
                    np.vstack([truth + generator.normal(0, 5, truth.shape), false]),
                    generator.uniform(size=num_truth + num_false),
                    np.concatenate([labels, generator.integers(num_classes, size=num_false)]),
                )
            ],
            [Target(f"{i:03}", 640, 480, truth, labels, generator.uniform(size=num_truth) < 0.1)],
        )
    return metric


def duplicated(metric, weights):
    """The metric over a dataset in which the image at place i stands weights[i] times."""
    copies = DetectionMetric(metric.class_names)
    for key, weight in zip(sorted(metric.samples), weights, strict=True):
        prediction, target = metric.samples[key]
        for copy in range(weight):
            name = f"{key}#{copy:02}"
            copies.update([dataclasses.replace(prediction, key=name)], [dataclasses.replace(target, key=name)])
    return copies


def test_each_image_once_is_pycocotools():
    metric = random_metric(40)
    result, values = metric.compute(), metric.resampled().resample(np.ones((2, 40), np.int64))
    assert values["ap"] == pytest.approx([result["ap"]] * 2, abs=1e-12)
    assert values["ap50"] == pytest.approx([result["ap50"]] * 2, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_a_resample_is_pycocotools_on_duplicated_images(seed):
    metric = random_metric(12, seed=seed)
    weights = np.random.default_rng(seed).multinomial(12, np.full(12, 1 / 12), size=3)
    values = metric.resampled().resample(weights)
    for row, drawn in enumerate(weights):
        expected = duplicated(metric, drawn).compute()
        assert values["ap"][row] == pytest.approx(expected["ap"], abs=1e-12)
        assert values["ap50"][row] == pytest.approx(expected["ap50"], abs=1e-12)


def test_classes_without_truth_in_a_resample_are_left_out():
    metric = random_metric(6, num_classes=5, most_detections=6, seed=3)
    weights = 6 * np.eye(6, dtype=np.int64)
    values = metric.resampled().resample(weights)
    expected = [duplicated(metric, drawn).compute() for drawn in weights]
    num_present = [sum(c["num_truth"] > 0 for c in result["per_class"].values()) for result in expected]
    assert min(num_present) < 5
    assert values["ap"] == pytest.approx([np.nan if r["ap"] is None else r["ap"] for r in expected], nan_ok=True)


def test_chunks_change_nothing(monkeypatch):
    metric = random_metric(10)
    weights = np.random.default_rng(0).multinomial(10, np.full(10, 0.1), size=20)
    whole = metric.resampled().resample(weights)
    monkeypatch.setattr("stages.metrics.average_precision.CHUNK_ELEMENTS", 1)
    assert (metric.resampled().resample(weights)["ap"] == whole["ap"]).all()


def test_hits_needed_is_where_pycocotools_looks():
    totals = np.arange(1, 400)
    expected = [np.searchsorted(np.arange(n + 1) / n, RECALLS, side="left") for n in totals]
    assert (hits_needed(totals) == np.stack(expected)).all()


def test_a_thousand_resamples_of_a_test_split_take_seconds():
    # BCCD's test split: 72 images, 3 classes; the limit is the evaluate stage's budget.
    metric = random_metric(72, most_detections=100)
    start = time.process_time()
    result = compare({"after": metric.resampled(), "before": metric.resampled()}, 1000, 0.95, seed=0)
    assert time.process_time() - start < 20
    assert result["after"]["ap"]["low"] < result["after"]["ap"]["value"] < result["after"]["ap"]["high"]
    assert result["differences"]["after-before"]["ap"]["value"] == 0
