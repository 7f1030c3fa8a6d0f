"""Losses over pixels against their definitions."""

import pytest
import torch
import torch.nn.functional as F

from stages.losses.dense import dice_loss, median_frequency_weights, pixel_cross_entropy

IGNORED = 255


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 4, (2, 5, 6), generator=generator)
    targets[0, :2] = IGNORED
    return torch.randn(2, 4, 5, 6, generator=generator), targets


@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 2.0, 0.5, 3.0])])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs_own_over_labelled_pixels(batch, weight, smoothing):
    logits, targets = batch
    is_labelled = targets != IGNORED
    expected = F.cross_entropy(
        logits.permute(0, 2, 3, 1)[is_labelled], targets[is_labelled], weight, label_smoothing=smoothing
    )
    assert pixel_cross_entropy(logits, targets, IGNORED, weight, smoothing) == pytest.approx(expected.item(), rel=1e-5)


def test_a_batch_without_labels_costs_nothing_and_has_gradients(batch):
    logits, targets = batch[0].requires_grad_(), torch.full_like(batch[1], IGNORED)
    loss = pixel_cross_entropy(logits, targets, IGNORED) + dice_loss(logits, targets, IGNORED)
    loss.backward()
    assert loss == 0 and (logits.grad == 0).all()


def test_dice_by_its_formula(batch):
    logits, targets = batch
    targets = targets.where(targets != 3, 0)  # class 3 is not there: it does not count
    probability, dice = logits.softmax(1), []
    for k in range(3):
        is_labelled = targets != IGNORED
        p, g = probability[:, k][is_labelled], (targets[is_labelled] == k).float()
        dice.append(2 * (p * g).sum() / (p.square().sum() + g.square().sum()))
    assert dice_loss(logits, targets, IGNORED) == pytest.approx(1 - (sum(dice) / 3).item(), rel=1e-5)


def test_dice_of_a_sure_and_right_prediction_is_0(batch):
    targets = batch[1]
    logits = 50.0 * F.one_hot(targets.where(targets != IGNORED, 0), 4).permute(0, 3, 1, 2)
    assert dice_loss(logits, targets, IGNORED) == pytest.approx(0, abs=1e-6)


def test_median_frequency_balancing_on_paper():
    """Frequencies 0.5, 0.1 and 0.02: the middle one has weight 1."""
    pixels, areas = torch.tensor([500, 50, 20, 0]), torch.tensor([1000, 500, 1000, 0])
    assert median_frequency_weights(pixels, areas).tolist() == pytest.approx([0.2, 1.0, 5.0, 1.0])
    assert median_frequency_weights(torch.zeros(2, dtype=torch.int64), torch.zeros(2)).tolist() == [1, 1]
