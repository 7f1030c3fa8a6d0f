"""Every family's features against what it declares, by real forward passes."""

import importlib
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from stages.models import backbones
from stages.models.backbone import Layout
from stages.params.backbone import ARCHITECTURES

SMALLEST = ("resnet18", "vgg11", "googlenet", "inception_v3")


def build(arch: str, **kwargs: str) -> backbones.Backbone:
    torch.manual_seed(0)
    return backbones.build(arch, **kwargs)


@pytest.fixture(scope="module", params=SMALLEST)
def backbone(request):
    return build(request.param).eval()


def test_params_and_families_offer_the_same_architectures():
    offered = [arch for family in backbones.FAMILIES for arch in family.ARCHITECTURES]
    assert sorted(offered) == sorted(ARCHITECTURES)
    assert len(set(offered)) == len(offered)


def test_every_family_on_disk_is_used():
    folder = Path(backbones.__file__).parent
    modules = [importlib.import_module(f"stages.models.{file.stem}") for file in sorted(folder.glob("[a-z]*.py"))]
    assert {m for m in modules if hasattr(m, "ARCHITECTURES")} == set(backbones.FAMILIES)


@pytest.mark.parametrize("size", [(96, 128), (100, 83)])
@torch.no_grad()
def test_features_have_the_declared_channels_and_strides(backbone, size):
    maps = backbone.features(torch.rand(1, 3, *size))
    assert len(maps) == len(backbone.channels) == len(backbone.strides) == len(backbone.stages)
    for x, channels, stride in zip(maps, backbone.channels, backbone.strides, strict=True):
        assert x.shape[:2] == (1, channels)
        for cells, side in zip(x.shape[2:], size, strict=True):
            assert cells == (side // stride if backbone.arch == "vgg11" else math.ceil(side / stride))


@torch.no_grad()
def test_features_lie_where_the_strides_say(backbone):
    """A spot at row 96, column 160 must change the features around (96, 160) / stride."""
    torch.manual_seed(1)
    images = torch.rand(1, 3, 256, 256)
    spotted = images.clone()
    spotted[..., 92:101, 156:165] += 3
    maps = zip(backbone.features(images), backbone.features(spotted), backbone.strides, strict=True)
    # At coarser levels a random network's answer is as wide as the image.
    for before, after, stride in list(maps)[:2]:
        change = (after - before).abs().sum(1)[0]
        weight = (change / change.max()).square()
        weight /= weight.sum()
        cells = torch.arange(len(weight)) * stride
        assert abs((weight.sum(1) * cells).sum() - 96) <= stride / 2 + 1
        assert abs((weight.sum(0) * cells).sum() - 160) <= stride / 2 + 1


@torch.no_grad()
def test_pooled_features_have_the_declared_width(backbone):
    side = max(64, backbone.image_px_min)
    assert backbone(torch.rand(2, 3, side, side)).shape == (2, backbone.num_features)


def test_channels_of_bottlenecks():
    assert build("resnet50").channels == (256, 512, 1024, 2048)


@torch.no_grad()
def test_small_stem_starts_at_stride_one():
    backbone = build("resnet18", stem="small").eval()
    assert backbone.strides == (1, 2, 4, 8)
    assert [x.shape[-1] for x in backbone.features(torch.rand(1, 3, 32, 32))] == [32, 16, 8, 4]


@pytest.mark.parametrize(
    ("arch", "stem", "message"),
    [
        ("alexnet", "imagenet", "unknown architecture 'alexnet'; there are: resnet18"),
        ("googlenet", "small", "stem 'small' is for resnets"),
        ("vgg11", "small", "stem 'small' is for resnets"),
        ("resnet18", "tiny", "unknown stem 'tiny'"),
    ],
)
def test_unknown_names_are_refused_with_the_choices(arch, stem, message):
    with pytest.raises(ValueError, match=message):
        build(arch, stem=stem)


def test_images_too_small_are_refused():
    with pytest.raises(ValueError, match="inception_v3 needs images of at least 75 px a side, got 64 px"):
        build("inception_v3")(torch.rand(1, 3, 64, 90))


def train_a_step(backbone: backbones.Backbone) -> set[str]:
    """Names of the tensors that one step of SGD and the batch norms changed."""
    backbone.train()
    before = {name: tensor.clone() for name, tensor in backbone.net.state_dict().items()}
    trainable = [p for p in backbone.parameters() if p.requires_grad]
    if trainable:
        optimizer = torch.optim.SGD(trainable, lr=0.1)
        backbone(torch.rand(4, 3, 64, 64)).square().mean().backward()
        optimizer.step()
    else:
        backbone(torch.rand(4, 3, 64, 64))
    return {name for name, tensor in backbone.net.state_dict().items() if not tensor.equal(before[name])}


@pytest.mark.parametrize(
    ("stages", "frozen"),
    [
        ("none", ()),
        (1, ("conv1", "bn1", "layer1")),
        (3, ("conv1", "bn1", "layer1", "layer2", "layer3")),
        ("backbone", ("",)),
    ],
)
def test_freeze_keeps_exactly_the_first_stages(stages, frozen):
    backbone = build("resnet18")
    backbone.freeze(stages)
    everything = set(backbone.net.state_dict())
    kept = {name for name in everything if name.startswith(frozen)} if frozen else set()
    assert train_a_step(backbone) == everything - kept
    parameters = dict(backbone.net.named_parameters())
    assert {name for name, p in parameters.items() if not p.requires_grad} == kept & set(parameters)


def test_freeze_of_more_stages_than_there_are():
    with pytest.raises(ValueError, match="freeze: 5 stages, but resnet18 has 4"):
        build("resnet18").freeze(5)


def test_drop_path_is_refused_where_there_is_none():
    build("resnet18").set_drop_path(0.0)
    with pytest.raises(ValueError, match=r"drop_path 0\.1: resnet18 has no residual branches that can be left out"):
        build("resnet18").set_drop_path(0.1)


def test_what_lies_between_stages_belongs_to_the_one_before():
    """As a transformer's tokens, position embedding and last norm do."""
    net = nn.Module()
    net.token = nn.Parameter(torch.zeros(1))
    for name in ("patches", "middle", "top", "norm"):
        net.add_module(name, nn.LayerNorm(1, bias=False))
    layout = Layout((("patches",), ("middle",), ("top",)), (), (), 1, 1, nn.Linear)
    backbone = backbones.Backbone("made", net, layout)
    stages = {"token": 0, "patches.weight": 0, "middle.weight": 1, "top.weight": 2, "norm.weight": 2}
    assert backbone.parameter_stages() == stages
    backbone.freeze(1)
    assert {name for name, p in net.named_parameters() if not p.requires_grad} == {"token", "patches.weight"}
    backbone.freeze(3)
    assert not any(p.requires_grad for p in net.parameters()) and not backbone.train().net.norm.training


def test_frozen_batch_norms_stay_and_the_rest_trains():
    backbone = build("resnet18")
    backbone.freeze_batch_norm()
    norms = [name for name, module in backbone.net.named_modules() if isinstance(module, nn.BatchNorm2d)]
    changed = train_a_step(backbone)
    assert norms and not any(name.rpartition(".")[0] in norms for name in changed)
    assert "conv1.weight" in changed


def test_the_same_seed_gives_the_same_weights():
    first, second = build("googlenet").state_dict(), build("googlenet").state_dict()
    assert all(first[name].equal(second[name]) for name in first)
