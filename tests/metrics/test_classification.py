"""Classification numbers by hand, and against scikit-learn, which is in the lock file through MLflow."""

import json

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from stages.metrics.classification import ClassificationMetric, Prediction

NAMES = ("cat", "dog", "owl")


def prediction(key, *probabilities):
    return Prediction(key, np.array(probabilities, np.float32))


def small():
    metric = ClassificationMetric(NAMES)
    metric.update(
        [
            prediction("a", 0.8, 0.1, 0.1),
            prediction("b", 0.6, 0.3, 0.1),
            prediction("c", 0.2, 0.7, 0.1),
            prediction("d", 0.1, 0.9, 0.0),
        ],
        [0, 1, 1, 1],
    )
    return metric


def random_metric(num_images=300, num_classes=8, seed=0):
    generator = np.random.default_rng(seed)
    targets = generator.integers(num_classes, size=num_images)
    logits = generator.normal(size=(num_images, num_classes)) + 1.5 * np.eye(num_classes)[targets]
    probabilities = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
    predictions = [Prediction(f"{i:04}", p) for i, p in enumerate(probabilities)]
    metric = ClassificationMetric([f"class {c}" for c in range(num_classes)])
    metric.update(predictions, targets.tolist())
    return metric, predictions, targets, probabilities


def test_by_hand():
    result = small().compute()
    assert result["confusion"] == [[1, 0, 0], [1, 2, 0], [0, 0, 0]]
    assert result["top1"] == 0.75
    assert result["top5"] == 1.0
    assert result["per_class"]["cat"] == {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "support": 1}
    assert result["per_class"]["dog"] == {"precision": 1.0, "recall": 2 / 3, "f1": pytest.approx(0.8), "support": 3}
    assert result["per_class"]["owl"] == {"precision": None, "recall": None, "f1": None, "support": 0}
    assert result["macro_precision"] == 0.75
    assert result["macro_recall"] == pytest.approx(5 / 6)
    # One prediction a bin: gaps 0.2, 0.6, 0.3, 0.1.
    assert result["ece"] == pytest.approx(1.2 / 4, abs=1e-6)
    assert result["nll"] == pytest.approx(-np.log([0.8, 0.3, 0.7, 0.9]).mean(), abs=1e-6)


def test_equals_scikit_learn():
    metric, _, targets, probabilities = random_metric()
    result, predicted = metric.compute(), probabilities.argmax(1)
    precision, recall, f1, support = sklearn_metrics.precision_recall_fscore_support(targets, predicted)
    for c, scores in enumerate(result["per_class"].values()):
        assert scores == {
            "precision": pytest.approx(precision[c]),
            "recall": pytest.approx(recall[c]),
            "f1": pytest.approx(f1[c]),
            "support": support[c],
        }
    assert result["confusion"] == sklearn_metrics.confusion_matrix(targets, predicted).tolist()
    assert result["top5"] == sklearn_metrics.top_k_accuracy_score(targets, probabilities, k=5)
    assert result["macro_f1"] == pytest.approx(sklearn_metrics.f1_score(targets, predicted, average="macro"))
    normalised = probabilities.astype(np.float64) / probabilities.astype(np.float64).sum(1, keepdims=True)
    assert result["nll"] == pytest.approx(sklearn_metrics.log_loss(targets, normalised), abs=1e-6)


def test_ece_equals_a_loop_over_bins():
    metric, _, targets, probabilities = random_metric()
    confidence, is_correct = probabilities.max(1).astype(float), probabilities.argmax(1) == targets
    expected = 0.0
    for m in range(15):
        inside = (confidence > m / 15) & (confidence <= (m + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(is_correct[inside].mean() - confidence[inside].mean())
    assert metric.compute()["ece"] == pytest.approx(expected)


def test_order_and_merging_change_nothing():
    whole, predictions, targets, _ = random_metric()
    parts = [ClassificationMetric(whole.class_names) for _ in range(3)]
    for i in np.random.default_rng(1).permutation(len(predictions)):
        parts[i % 3].update([predictions[i]], [int(targets[i])])
    parts[2].merge(parts[0])
    parts[2].merge(parts[1])
    parts[2].merge(ClassificationMetric(whole.class_names))
    assert json.dumps(parts[2].compute()) == json.dumps(whole.compute())


def test_a_repeated_key_counts_once_and_a_contradiction_is_an_error():
    metric = small()
    metric.merge(small())
    assert metric.compute() == small().compute()
    with pytest.raises(ValueError, match="image a came twice"):
        metric.update([prediction("a", 1, 0, 0)], [2])


def test_equal_probabilities_rank_the_earlier_class_first():
    metric = ClassificationMetric([str(c) for c in range(7)])
    metric.update([Prediction(str(c), np.full(7, 1 / 7, np.float32)) for c in range(7)], range(7))
    assert metric.compute()["top1"] == pytest.approx(1 / 7)
    assert metric.compute()["top5"] == pytest.approx(5 / 7)


def test_per_image_worst_and_resampled_agree():
    metric = small()
    assert metric.per_image() == {"a": 1.0, "b": 0.0, "c": 1.0, "d": 1.0}
    assert metric.worst(2) == ["b", "c"]
    values = metric.resampled().resample(np.array([[1, 1, 1, 1], [0, 4, 0, 0], [3, 1, 0, 0]]))
    assert values["top1"].tolist() == [0.75, 0.0, 0.75]
    assert values["top5"].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("made", "target", "message"),
    [
        (prediction("x", 0.5, 0.5), 0, r"shape \(2,\), needs \(3,\)"),
        (prediction("x", np.nan, 0, 0), 0, "not finite"),
        (prediction("x", 1, 0, 0), 3, "class 3 is not one of 0 to 2"),
    ],
)
def test_bad_input_names_the_image(made, target, message):
    with pytest.raises(ValueError, match=f"image x.*{message}"):
        ClassificationMetric(NAMES).update([made], [target])


def test_no_images_is_an_error():
    with pytest.raises(ValueError, match="no image was evaluated"):
        ClassificationMetric(NAMES).compute()
