"""The losses of one-stage detectors against torchvision's functions and by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

from stages.losses.boxes import distribution_focal_loss, multibox_losses, quality_focal_loss


def test_quality_focal_loss_is_the_focal_loss_for_hard_targets():
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    targets = F.one_hot(torch.tensor([0, 2, 1, 1, 0]), 3).float()
    expected = sigmoid_focal_loss(logits, targets, alpha=-1, gamma=2)
    torch.testing.assert_close(quality_focal_loss(logits, targets), expected)


def test_quality_focal_loss_by_hand_is_zero_where_the_score_is_the_quality():
    logits, quality = torch.logit(torch.tensor([0.7, 0.2])), torch.tensor([0.7, 0.6])
    loss = quality_focal_loss(logits, quality)
    by_hand = 0.4**2 * -(0.6 * math.log(0.2) + 0.4 * math.log(0.8))
    torch.testing.assert_close(loss, torch.tensor([0.0, by_hand]))


def test_distribution_focal_loss_by_hand():
    logits = torch.tensor([[0.0, 1.0, 2.0, 0.5], [3.0, 0.0, 0.0, 0.0]])
    log_p = logits.log_softmax(1)
    loss = distribution_focal_loss(logits, torch.tensor([1.25, 0.0]))
    torch.testing.assert_close(loss, torch.stack([-(0.75 * log_p[0, 1] + 0.25 * log_p[0, 2]), -log_p[1, 0]]))


@pytest.mark.parametrize(("distance", "bin_"), [(-2.0, 0), (3.0, 3), (40.0, 3)])
def test_distances_beyond_the_bins_are_cut(distance, bin_):
    logits = torch.tensor([[0.3, 1.0, 2.0, 0.5]])
    expected = -logits.log_softmax(1)[:, bin_]
    torch.testing.assert_close(distribution_focal_loss(logits, torch.tensor([distance])), expected)


def test_distribution_is_least_wrong_where_its_mean_is():
    wanted = torch.tensor([2.3])
    sure = torch.full((1, 6), -20.0)
    sure[0, 2:4] = torch.tensor([0.7, 0.3]).log()
    losses = [
        distribution_focal_loss(sure + noise, wanted) for noise in (0.0, torch.eye(6)[2:3], torch.eye(6)[5:6] * 30)
    ]
    assert losses[0] < losses[1] and losses[0] < losses[2]


def test_multibox_by_hand_takes_the_hardest_negatives():
    # Five places, one positive, two negatives for it: of the four negatives those of the largest loss count.
    logits = torch.tensor([[[0.0, 2.0], [3.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 4.0]]])
    labels = torch.tensor([[1, 0, 0, 0, 0]])
    regression, deltas = torch.zeros(1, 5, 4), torch.zeros(1, 5, 4)
    deltas[0, 0] = torch.tensor([0.5, 0.0, 2.0, 0.0])
    losses = multibox_losses(logits, regression, labels, deltas, 2.0)
    log_p = logits.log_softmax(2)
    torch.testing.assert_close(losses["loss_classifier"], -(log_p[0, 0, 1] + log_p[0, 2, 0] + log_p[0, 4, 0]))
    torch.testing.assert_close(losses["loss_box_reg"], torch.tensor(0.5 * 0.5**2 + 1.5))


def test_multibox_smoothing_by_hand():
    logits, labels = torch.tensor([[[0.0, 2.0, 1.0]]]), torch.tensor([[1]])
    boxes = torch.zeros(1, 1, 4)
    log_p = logits.log_softmax(2)[0, 0]
    expected = -(0.9 * log_p[1] + 0.1 * log_p.mean())
    torch.testing.assert_close(multibox_losses(logits, boxes, labels, boxes, 3.0, 0.1)["loss_classifier"], expected)


def test_multibox_without_any_object_teaches_the_background():
    logits = torch.zeros(2, 6, 3, requires_grad=True)
    boxes = torch.zeros(2, 6, 4)
    losses = multibox_losses(logits, boxes, torch.zeros(2, 6, dtype=torch.int64), boxes, 3.0)
    assert losses["loss_box_reg"] == 0
    torch.testing.assert_close(losses["loss_classifier"], torch.tensor(6 * math.log(3)))
    losses["loss_classifier"].backward()
    assert (logits.grad[..., 0] <= 0).all() and logits.grad[..., 0].sum() < 0
