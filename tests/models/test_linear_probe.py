"""The linear probe against scikit-learn's logistic regression."""

import numpy as np
import pytest
import torch

from stages.models.linear_probe import fit_linear
from stages.params.classification import ProbeParams

linear_model = pytest.importorskip("sklearn.linear_model")


def toy(num_classes, seed=0, num=120, width=5):
    """Overlapping blobs whose features have very different scales."""
    rng = np.random.default_rng(seed)
    targets = np.arange(num) % num_classes
    features = rng.normal(size=(num, width)) + 0.7 * rng.normal(size=(num_classes, width))[targets]
    return (features * [1, 10, 0.1, 3, 1] + [0, 50, 0, -2, 1]).astype(np.float32), targets


def probabilities(features, weight, bias):
    return (torch.from_numpy(features) @ weight.T + bias).softmax(1).numpy()


@pytest.mark.parametrize("num_classes", [2, 4])
@pytest.mark.parametrize("l2", [1e-3, 0.1])
def test_same_probabilities_as_scikit_learn(num_classes, l2):
    features, targets = toy(num_classes)
    weight, bias = fit_linear(
        torch.from_numpy(features), torch.from_numpy(targets), num_classes, ProbeParams(l2=l2, iterations=500)
    )
    assert weight.shape == (num_classes, 5) and bias.shape == (num_classes,)
    # Ours is the mean loss + l2 |W|^2, theirs C times the sum of losses + |W|^2 / 2. For two classes theirs has one
    # row, the difference of ours, and so half as much penalty.
    penalty = 2 * l2 * len(features) / (2 if num_classes == 2 else 1)
    scaled = (features - features.mean(0)) / features.std(0)
    reference = linear_model.LogisticRegression(C=1 / penalty, tol=1e-8, max_iter=5000).fit(scaled, targets)
    np.testing.assert_allclose(probabilities(features, weight, bias), reference.predict_proba(scaled), atol=2e-3)


def test_a_feature_that_never_changes_does_no_harm():
    features, targets = toy(3)
    constant = np.concatenate([features, np.full((len(features), 1), 4.0, np.float32)], 1)
    weight, bias = fit_linear(torch.from_numpy(constant), torch.from_numpy(targets), 3, ProbeParams(iterations=500))
    plain = fit_linear(torch.from_numpy(features), torch.from_numpy(targets), 3, ProbeParams(iterations=500))
    np.testing.assert_allclose(probabilities(constant, weight, bias), probabilities(features, *plain), atol=2e-3)


def test_the_same_bits_each_time():
    features, targets = (torch.from_numpy(part) for part in toy(3))
    first, second = (fit_linear(features, targets, 3, ProbeParams()) for _ in range(2))
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


def test_fits_without_gradients_around_it():
    features, targets = (torch.from_numpy(part) for part in toy(3))
    with torch.no_grad():
        weight, bias = fit_linear(features, targets, 3, ProbeParams())
    hits = (features @ weight.T + bias).argmax(1) == targets
    assert hits.float().mean() > 0.55 and not weight.requires_grad


def test_labels_each_by_itself_are_as_many_logistic_regressions():
    features, targets = toy(4)
    present = np.stack([targets == c for c in (0, 1)] + [targets % 2 == 0], axis=1)
    weight, bias = fit_linear(
        torch.from_numpy(features),
        torch.from_numpy(present.astype(np.float32)),
        3,
        ProbeParams(l2=0.01, iterations=500),
    )
    scaled = (features - features.mean(0)) / features.std(0)
    found = (torch.from_numpy(features) @ weight.T + bias).sigmoid().numpy()
    for c in range(3):
        reference = linear_model.LogisticRegression(C=1 / (2 * 0.01 * len(features)), tol=1e-8, max_iter=5000)
        expected = reference.fit(scaled, present[:, c]).predict_proba(scaled)[:, 1]
        np.testing.assert_allclose(found[:, c], expected, atol=2e-3)
