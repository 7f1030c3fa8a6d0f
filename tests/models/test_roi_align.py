"""PyramidRoIAlign against torchvision's MultiScaleRoIAlign, values and gradients."""

import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import LevelMapper

from stages.models.roi_align import PyramidRoIAlign

STRIDES = (4, 8, 16, 32)
HEIGHT, WIDTH = 160, 224


@pytest.fixture
def pyramid():
    torch.manual_seed(0)
    return {str(i): torch.randn(2, 5, HEIGHT // s, WIDTH // s, requires_grad=True) for i, s in enumerate(STRIDES)}


def boxes(number: int) -> torch.Tensor:
    """Of all sizes, tiny, on every border and beyond it."""
    torch.manual_seed(1)
    corner = torch.rand(number, 2) * torch.tensor([WIDTH, HEIGHT])
    size = torch.rand(number, 2) ** 2 * 200 + 0.01
    odd = torch.tensor(
        [[0, 0, WIDTH, HEIGHT], [WIDTH - 1, HEIGHT - 1, WIDTH, HEIGHT], [-30, -9, 20, 20], [210, 150, 270, 190]]
    )
    return torch.cat([torch.cat([corner, corner + size], 1), odd.float()])


def theirs(pyramid, rois):
    pool = MultiScaleRoIAlign(list(pyramid), 7, 2)
    pool.scales, pool.map_levels = [1 / s for s in STRIDES], LevelMapper(2, 5, 224, 4)
    return pool(pyramid, rois, [(HEIGHT, WIDTH)] * 2)


def test_values_and_gradients_equal_torchvisions(pyramid):
    rois = [boxes(60), boxes(9)]
    ours, expected = PyramidRoIAlign(STRIDES)(pyramid, rois, []), theirs(pyramid, rois)
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)
    down = torch.randn_like(expected)
    levels = list(pyramid.values())
    for mine, other in zip(
        torch.autograd.grad(ours, levels, down), torch.autograd.grad(expected, levels, down), strict=True
    ):
        torch.testing.assert_close(mine, other, atol=1e-3, rtol=1e-4)


def test_no_boxes(pyramid):
    assert PyramidRoIAlign(STRIDES)(pyramid, [torch.zeros(0, 4)] * 2, []).shape == (0, 5, 7, 7)


def test_further_levels_are_not_read(pyramid):
    rois = [boxes(5), boxes(0)]
    more = {**pyramid, "pool": torch.full((2, 5, 2, 2), torch.nan)}
    assert PyramidRoIAlign(STRIDES)(more, rois, []).equal(PyramidRoIAlign(STRIDES)(pyramid, rois, []))


def test_reads_bfloat16_in_float32(pyramid):
    rounded = {name: x.bfloat16() for name, x in pyramid.items()}
    rois = [boxes(20), boxes(3)]
    ours = PyramidRoIAlign(STRIDES)(rounded, rois, [])
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs({n: x.float() for n, x in rounded.items()}, rois), atol=1e-4, rtol=1e-4)
