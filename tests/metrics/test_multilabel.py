"""Multi-label numbers by hand, and against scikit-learn, which is in the lock file through MLflow."""

import json

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from stages.metrics import bootstrap
from stages.metrics.classification import Prediction
from stages.metrics.multilabel import MultiLabelMetric, Target, average_precision

NAMES = ("cat", "dog", "owl")


def pair(key, probabilities, present):
    return Prediction(key, np.array(probabilities, np.float32)), Target(key, np.array(present, bool))


def measured(*pairs, names=NAMES, **options):
    metric = MultiLabelMetric(names, **options)
    metric.update(*map(list, zip(*pairs, strict=True)))
    return metric


def small():
    return measured(
        pair("a", [0.9, 0.6, 0.1], [1, 1, 0]),
        pair("b", [0.8, 0.2, 0.1], [0, 1, 0]),
        pair("c", [0.7, 0.1, 0.2], [1, 0, 0]),
        pair("d", [0.1, 0.1, 0.1], [0, 0, 0]),
    )


def random_metric(num_images=200, num_classes=6, seed=0, digits=8):
    generator = np.random.default_rng(seed)
    truth = generator.random((num_images, num_classes)) < np.linspace(0.05, 0.6, num_classes)
    probabilities = 1 / (1 + np.exp(-generator.normal(2.0 * truth - 1, 1.0)))
    probabilities = probabilities.round(digits).astype(np.float32)
    pairs = [pair(f"{i:04}", p, t) for i, (p, t) in enumerate(zip(probabilities, truth, strict=True))]
    return measured(*pairs, names=[f"class {c}" for c in range(num_classes)]), truth, probabilities


def test_by_hand():
    result = small().compute()
    # cat: found at ranks 1 and 3 of two; dog: at 1 and 2.
    assert result["per_class"]["cat"]["ap"] == pytest.approx((1 + 2 / 3) / 2)
    assert result["per_class"]["dog"]["ap"] == pytest.approx(1.0)
    assert result["map"] == pytest.approx((5 / 6 + 1) / 2)
    assert result["per_class"]["owl"] == {"ap": None, "precision": None, "recall": None, "f1": None, "support": 0}
    assert (result["exact_match"], result["labels_per_image"]) == (0.75, 1.0)
    assert (result["micro_precision"], result["micro_recall"], result["micro_f1"]) == (0.75, 0.75, 0.75)
    assert result["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)
    assert small().per_image() == {"a": 1.0, "b": 0.0, "c": 1.0, "d": 1.0}
    assert small().worst(2) == ["b", "a"]
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize("digits", [8, 1])
def test_equals_scikit_learn_with_and_without_equal_scores(digits):
    metric, truth, probabilities = random_metric(digits=digits)
    result, predicted = metric.compute(), probabilities >= 0.5
    expected = [sklearn_metrics.average_precision_score(truth[:, c], probabilities[:, c]) for c in range(6)]
    assert [scores["ap"] for scores in result["per_class"].values()] == pytest.approx(expected, abs=1e-12)
    assert result["map"] == pytest.approx(np.mean(expected), abs=1e-12)
    for average in ("micro", "macro"):
        precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(
            truth, predicted, average=average, zero_division=0
        )
        found = [result[f"{average}_{name}"] for name in ("precision", "recall", "f1")]
        assert found == pytest.approx([precision, recall, f1], abs=1e-12)
    assert result["exact_match"] == pytest.approx(sklearn_metrics.accuracy_score(truth, predicted))
    per_image = sklearn_metrics.f1_score(truth, predicted, average="samples", zero_division=1)
    assert np.mean(list(metric.per_image().values())) == pytest.approx(per_image)
    losses = [sklearn_metrics.log_loss(truth[:, c], probabilities[:, c].astype(float), labels=[0, 1]) for c in range(6)]
    if digits == 8:
        assert result["nll"] == pytest.approx(np.mean(losses), abs=1e-6)


def test_resampled_equals_images_that_stand_there_several_times():
    metric, truth, probabilities = random_metric(num_images=40, digits=1)
    weights = np.random.default_rng(3).multinomial(40, np.full(40, 1 / 40), size=5)
    values = metric.resampled().resample(weights)
    for row, counts in enumerate(weights):
        again = measured(
            *[pair(f"{i:02} {n}", probabilities[i], truth[i]) for i in range(40) for n in range(counts[i])],
            names=metric.class_names,
        ).compute()
        for name in ("map", "micro_f1", "exact_match"):
            assert values[name][row] == pytest.approx(again[name], abs=1e-12), name


def test_resampled_once_each_and_by_class_give_the_numbers_themselves():
    metric, _, _ = random_metric()
    result = metric.compute()
    assert bootstrap.value_of(metric.resampled()) == {n: result[n] for n in ("map", "micro_f1", "exact_match")}
    for name, of_class in metric.by_class().items():
        assert bootstrap.value_of(of_class)["map"] == pytest.approx(result["per_class"][name]["ap"], abs=1e-12)
    assert "owl" not in small().by_class()


def test_order_merging_and_parts_change_nothing():
    whole, truth, probabilities = random_metric()
    parts = [MultiLabelMetric(whole.class_names) for _ in range(2)]
    for i in np.random.default_rng(1).permutation(len(truth)):
        made, wanted = pair(f"{i:04}", probabilities[i], truth[i])
        parts[i % 2].update([made], [wanted])
    parts[0].merge(parts[1])
    parts[0].merge(whole.part(["0000", "0001"]))  # again: a key counts once
    assert json.dumps(parts[0].compute()) == json.dumps(whole.compute())


def test_the_threshold_decides_what_is_given():
    metric = measured(pair("a", [0.4, 0.2, 0.1], [1, 0, 0]), score_threshold=0.3)
    assert metric.compute()["exact_match"] == 1.0 and metric.part(["a"]).compute()["exact_match"] == 1.0


def test_no_label_at_all_gives_null():
    result = measured(pair("a", [0.1, 0.2, 0.3], [0, 0, 0])).compute()
    assert (result["map"], result["micro_f1"], result["macro_f1"]) == (None, None, None)
    assert result["exact_match"] == 1.0
    assert np.isnan(average_precision(np.zeros(3, bool), np.arange(3.0), np.ones((1, 3), int))[0])


@pytest.mark.parametrize(
    ("made", "wanted", "message"),
    [
        (Prediction("y", np.zeros(3, np.float32)), Target("x", np.zeros(3, bool)), "image y came with the target of x"),
        (Prediction("x", np.zeros(2, np.float32)), Target("x", np.zeros(3, bool)), r"image x: .*\(2,\) and \(3,\)"),
        (Prediction("x", np.full(3, np.nan)), Target("x", np.zeros(3, bool)), "image x: .*not finite"),
    ],
)
def test_bad_input_names_the_image(made, wanted, message):
    with pytest.raises(ValueError, match=message):
        MultiLabelMetric(NAMES).update([made], [wanted])


def test_other_labels_under_the_same_key_and_no_images_are_errors():
    metric = small()
    with pytest.raises(ValueError, match="image a came twice"):
        metric.update(*map(list, zip(pair("a", [0.9, 0.6, 0.1], [1, 0, 0]), strict=True)))
    with pytest.raises(ValueError, match="no image was evaluated"):
        MultiLabelMetric(NAMES).compute()
