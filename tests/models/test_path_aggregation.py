"""PAN-FPN: sides stay, and every level hears of every map."""

import pytest
import torch

from stages.models.path_aggregation import PathAggregation, convolution


@pytest.mark.parametrize("sides", [((16, 24), (8, 12), (4, 6)), ((9, 11), (5, 6), (3, 3)), ((9, 11), (4, 5), (2, 2))])
def test_levels_have_the_sides_of_the_maps(sides):
    neck = PathAggregation((6, 8, 10), 4, 2)
    maps = [torch.randn(2, c, *side) for c, side in zip((6, 8, 10), sides, strict=True)]
    assert [tuple(x.shape) for x in neck(maps)] == [(2, 4, *side) for side in sides]


@pytest.mark.parametrize("level", [0, 1, 2])
def test_every_level_depends_on_every_map(level):
    torch.manual_seed(0)
    neck = PathAggregation((3, 3, 3), 4, 1)
    maps = [torch.randn(1, 3, s, s, requires_grad=True) for s in (16, 8, 4)]
    (neck(maps)[level] ** 2).sum().backward()
    assert all(x.grad is not None and x.grad.any() for x in maps)


def test_one_map_is_a_pyramid_of_one_level():
    assert PathAggregation((5,), 4, 1)([torch.randn(1, 5, 6, 7)])[0].shape == (1, 4, 6, 7)


def test_no_bias_before_a_norm():
    conv, norm, _ = convolution(3, 4, 3, stride=2)
    assert conv.bias is None and norm.bias is not None and conv(torch.zeros(1, 3, 7, 8)).shape == (1, 4, 4, 4)
