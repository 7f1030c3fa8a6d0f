"""Heatmaps drawn by hand, and losses with and without labels."""

import math

import pytest
import torch

from stages.losses.heatmaps import gaussians, heatmap_loss


def test_a_gaussian_stands_where_the_joint_is():
    joints = torch.tensor([[[4.5, 2.5, 2.0], [1.0, 1.0, 0.0]]])
    maps = gaussians(joints, 6, 8, 1.5)
    assert maps.shape == (1, 2, 6, 8) and maps.dtype == torch.float32
    assert maps[0, 0, 2, 4] == 1.0 and not maps[0, 1].any()
    assert maps[0, 0, 2, 5].item() == pytest.approx(math.exp(-1 / (2 * 1.5**2)))
    assert maps[0, 0, 3, 5].item() == pytest.approx(math.exp(-2 / (2 * 1.5**2)))
    between = gaussians(torch.tensor([[[4.0, 2.5, 1.0]]]), 6, 8, 1.5)[0, 0]
    assert between[2, 3] == between[2, 4] < 1


def test_only_labelled_joints_count():
    torch.manual_seed(0)
    maps = torch.randn(2, 3, 6, 8, requires_grad=True)
    joints = torch.tensor([[[4.5, 2.5, 2.0], [1.0, 1.0, 0.0], [2.0, 3.0, 1.0]], [[0.0, 0.0, 0.0]] * 3])
    heatmap_loss(maps, joints, 1.5).backward()
    assert maps.grad is not None and maps.grad[0, [0, 2]].any() and not maps.grad[0, 1].any() and not maps.grad[1].any()
    nothing = heatmap_loss(maps, torch.zeros(2, 3, 3), 1.5)
    nothing.backward()
    assert nothing == 0 and torch.isfinite(maps.grad).all()


def test_the_least_losses():
    joints = torch.tensor([[[4.3, 2.9, 2.0]]])
    wanted = gaussians(joints, 6, 8, 1.5)
    assert heatmap_loss(wanted, joints, 1.5) == 0
    assert heatmap_loss(wanted + 0.5, joints, 1.5).item() == pytest.approx(0.25)


def test_bfloat16_is_summed_in_float32():
    joints = torch.tensor([[[4.3, 2.9, 2.0]]])
    assert heatmap_loss(torch.zeros(1, 1, 6, 8, dtype=torch.bfloat16), joints, 1.5).dtype == torch.float32
