"""SimpleBaseline: its size, and where a peak is read to lie."""

import pytest
import torch

from stages.losses.heatmaps import gaussians
from stages.models import backbones
from stages.models.heatmaps import HeatmapNet, decoded
from stages.params.keypoints import HeatmapParams


def net(arch="resnet18", stem="imagenet", joints=3, **params) -> HeatmapNet:
    torch.manual_seed(0)
    return HeatmapNet(backbones.build(arch, stem=stem), joints, HeatmapParams(**{"channels": 8, **params}))


@pytest.mark.parametrize(
    ("arch", "stem", "params", "count"),
    [
        ("resnet18", "imagenet", {}, 3),
        ("resnet18", "imagenet", {"features": "pyramid"}, 3),
        ("resnet18", "imagenet", {"stride_px": 8, "features": "pyramid"}, 2),
        ("resnet18", "small", {"stride_px": 8}, 0),
        ("vgg11", "imagenet", {"features": "pyramid", "stride_px": 2}, 4),
        ("googlenet", "imagenet", {}, 3),
    ],
)
def test_maps_have_the_stride_that_is_asked_for_and_all_trains(arch, stem, params, count):
    model = net(arch, stem, **params)
    maps = model(torch.rand(2, 3, 64, 96))
    stride = params.get("stride_px", 4)
    assert maps.shape == (2, 3, 64 // stride, 96 // stride) and len(model.up) == count
    maps.square().mean().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


def test_parameters_are_those_of_the_paper():
    """Xiao et al. 2018, section 3: three deconvolutions of 256 filters, 4 x 4, and a 1 x 1 convolution to K."""
    model = net("resnet50", joints=17, channels=256)
    head = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("backbone"))
    deconvolutions = 16 * 256 * (2048 + 256 + 256) + 3 * 2 * 256  # no bias, but batch norms
    assert head == deconvolutions + 256 * 17 + 17


def test_a_map_that_is_too_coarse_is_refused():
    with pytest.raises(
        ValueError, match=r"heatmaps.stride_px 16: the last map of resnet18 has stride 8; give 8 or less"
    ):
        net(stem="small", stride_px=16)


PLACES = torch.tensor([[[10.37, 9.81, 1.0], [12.5, 13.0, 1.0], [15.02, 8.49, 1.0]]])  # not near the border


@pytest.mark.parametrize(("method", "most"), [("dark", 0.02), ("quarter", 0.36)])
def test_a_gaussian_is_found_where_it_stands(method, most):
    """DARK is exact for a Gaussian (Zhang et al. 2020); a quarter cell is off by at most a quarter on each axis."""
    maps = gaussians(PLACES, 24, 28, 2.0)
    places, heights = decoded(maps, method, 2.0)
    off = (places - PLACES[..., :2]).norm(dim=2)
    assert off.max() <= most and (heights > 0.9).all()
    noisy = maps + 0.02 * torch.randn(maps.shape, generator=torch.Generator().manual_seed(0))
    off = (decoded(noisy, method, 2.0)[0] - PLACES[..., :2]).norm(dim=2)
    assert off.max() <= max(most, 0.3) + 0.1


def test_dark_beats_the_quarter():
    torch.manual_seed(1)
    joints = torch.cat([torch.rand(50, 4, 2) * 12 + 4, torch.ones(50, 4, 1)], 2)
    maps = gaussians(joints, 20, 20, 2.0) + 0.01 * torch.randn(50, 4, 20, 20)
    errors = {m: (decoded(maps, m, 2.0)[0] - joints[..., :2]).norm(dim=2).mean() for m in ("dark", "quarter")}
    assert errors["dark"] < 0.5 * errors["quarter"]


@pytest.mark.parametrize("method", ["dark", "quarter"])
def test_flat_maps_and_peaks_at_the_border_are_finite(method):
    maps = torch.zeros(1, 3, 8, 8)
    maps[0, 1, 0, 7] = 1.0
    maps[0, 2] = -5.0
    places, heights = decoded(maps, method, 2.0)
    assert torch.isfinite(places).all() and torch.isfinite(heights).all()
    assert places[0, 1].tolist() == [7.5, 0.5]
    assert ((places >= 0) & (places <= 8)).all()


def test_maps_too_small_to_look_into_are_refused():
    with pytest.raises(ValueError, match="of 2 x 8 cells are too small"):
        decoded(torch.zeros(1, 1, 8, 2), "dark", 2.0)
