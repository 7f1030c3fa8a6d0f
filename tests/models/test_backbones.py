"""Every family's features against what it declares, by real forward passes."""

import copy
import importlib
import math
import re
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops import StochasticDepth

from stages.models import backbones
from stages.models.backbone import Layout
from stages.models.classifier import Classifier
from stages.models.weights import load_weights, save_weights
from stages.params import backbone as params

NEW = (*("efficientnet_b0", "mobilenet_v2", "mobilenet_v3_small", "convnext_tiny", "vit_ti_16", "swin_t", "swin_v2_t"),)
SMALLEST = ("resnet18", "vgg11", "googlenet", "inception_v3", *NEW)


def build(arch: str, **kwargs: str) -> backbones.Backbone:
    torch.manual_seed(0)
    return backbones.build(arch, **kwargs)


@pytest.fixture(scope="module", params=SMALLEST)
def backbone(request):
    return build(request.param).eval()


@pytest.fixture(scope="module")
def dense(backbone):
    """The same for tasks that read feature maps."""
    copied = copy.deepcopy(backbone)
    copied.features_only()
    return copied


def test_params_and_families_offer_the_same_architectures():
    offered = [arch for family in backbones.FAMILIES for arch in family.ARCHITECTURES]
    assert sorted(offered) == sorted(params.ARCHITECTURES)
    assert len(set(offered)) == len(offered)


def test_every_family_on_disk_is_used():
    folder = Path(backbones.__file__).parent
    modules = [importlib.import_module(f"stages.models.{file.stem}") for file in sorted(folder.glob("[a-z]*.py"))]
    assert {m for m in modules if hasattr(m, "ARCHITECTURES")} == set(backbones.FAMILIES)


@pytest.mark.parametrize("size", [(96, 128), (100, 83)])
@torch.no_grad()
def test_features_have_the_declared_channels_and_strides(dense, size):
    assert (dense.channels, dense.strides) == (params.channels_of(dense.arch), params.strides_of(dense.arch))
    maps = dense.features(torch.rand(1, 3, *size))
    assert len(maps) == len(dense.channels) == len(dense.strides) == len(dense.stages)
    for x, channels, stride in zip(maps, dense.channels, dense.strides, strict=True):
        assert x.shape[:2] == (1, channels)
        for cells, side in zip(x.shape[2:], size, strict=True):
            assert cells == (side // stride if dense.arch == "vgg11" else math.ceil(side / stride))


@torch.no_grad()
def test_features_lie_where_the_strides_say(dense):
    """A spot at row 96, column 160 must change the features around (96, 160) / stride."""
    if dense.arch == "vit_ti_16":
        pytest.skip("its finest cells share patches of 16 px: see the test of patches")
    torch.manual_seed(1)
    images = torch.rand(1, 3, 256, 256)
    spotted = images.clone()
    spotted[..., 92:101, 156:165] += 3
    maps = zip(dense.features(images), dense.features(spotted), dense.strides, strict=True)
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
        ("googlenet", "small", "stem 'small' is for resnets; googlenet has: imagenet, inception"),
        ("vgg11", "small", "stem 'small' is for resnets; vgg11 has: imagenet, inception"),
        ("swin_t", "small", "stem 'small' is for resnets; swin_t has: imagenet, inception"),
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
    """Names of the tensors that one step of Adam and the batch norms changed."""
    backbone.train()
    before = {name: tensor.clone() for name, tensor in backbone.net.state_dict().items()}
    trainable = [p for p in backbone.parameters() if p.requires_grad]
    if trainable:
        # Its steps do not depend on how large the gradients are.
        optimizer = torch.optim.Adam(trainable, lr=0.01, eps=1e-30)
        pooled = backbone(torch.rand(4, 3, 64, 64))
        (pooled * torch.rand_like(pooled)).mean().backward()
        optimizer.step()
    else:
        backbone(torch.rand(4, 3, 64, 64))
    return {name for name, tensor in backbone.net.state_dict().items() if not tensor.equal(before[name])}


PATCHES = ("class_token", "conv_proj", "encoder.pos_embedding")


@pytest.mark.parametrize(
    ("arch", "stages", "frozen"),
    [
        ("resnet18", "none", ()),
        ("resnet18", 1, ("conv1", "bn1", "layer1")),
        ("resnet18", 3, ("conv1", "bn1", "layer1", "layer2", "layer3")),
        ("resnet18", "backbone", ("",)),
        ("mobilenet_v3_small", 2, ("features.0", "features.1", "features.2", "features.3")),
        ("vit_ti_16", 1, (*PATCHES, *(f"encoder.layers.encoder_layer_{i}" for i in range(3)))),
        ("vit_ti_16", "backbone", ("",)),
    ],
)
def test_freeze_keeps_exactly_the_first_stages(arch, stages, frozen):
    backbone = build(arch)
    backbone.freeze(stages)
    everything = set(backbone.net.state_dict())
    kept = {name for name in everything if any(part in ("", name) or name.startswith(f"{part}.") for part in frozen)}
    assert train_a_step(backbone) == everything - kept
    parameters = dict(backbone.net.named_parameters())
    assert {name for name, p in parameters.items() if not p.requires_grad} == kept & set(parameters)


def test_freeze_of_more_stages_than_there_are():
    with pytest.raises(ValueError, match="freeze: 5 stages, but resnet18 has 4"):
        build("resnet18").freeze(5)


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


@pytest.mark.parametrize(("arch", "first"), [("resnet18", "conv1"), ("mobilenet_v3_small", "features.0.0")])
def test_frozen_batch_norms_stay_and_the_rest_trains(arch, first):
    backbone = build(arch)
    backbone.freeze_batch_norm()
    norms = [name for name, module in backbone.net.named_modules() if isinstance(module, nn.BatchNorm2d)]
    changed = train_a_step(backbone)
    assert norms and not any(name.rpartition(".")[0] in norms for name in changed)
    assert f"{first}.weight" in changed


def test_layer_norms_are_no_batch_norms():
    backbone = build("vit_ti_16")
    backbone.freeze_batch_norm()
    assert all(p.requires_grad for p in backbone.parameters())


def test_the_same_seed_gives_the_same_weights():
    first, second = build("googlenet").state_dict(), build("googlenet").state_dict()
    assert all(first[name].equal(second[name]) for name in first)


def test_what_params_say_of_each_family_is_so(backbone):
    assert params.image_px_min_of(backbone.arch) == backbone.image_px_min
    kinds = {type(module) for module in backbone.modules()}
    assert params.has_drop_path(backbone.arch) == (StochasticDepth in kinds)
    assert params.has_batch_norm(backbone.arch) == any(issubclass(kind, _BatchNorm) for kind in kinds)
    assert params.has_norm(backbone.arch) == bool(backbone.norms())


@torch.no_grad()
def test_drop_path_acts_only_while_training_and_rises_with_depth(backbone):
    if not params.has_drop_path(backbone.arch):
        with pytest.raises(ValueError, match=f"drop_path 0.1: {backbone.arch} has none; families that have it: eff"):
            backbone.set_drop_path(0.1)
        return
    dropping = copy.deepcopy(backbone).train()
    dropping.freeze_batch_norm()
    images = torch.rand(2, 3, 64, 64)
    whole = backbone(images)
    assert dropping(images).equal(whole)  # off, unless it is asked for
    dropping.set_drop_path(0.8)
    rates = [module.p for module in dropping.modules() if isinstance(module, StochasticDepth)]
    assert rates == pytest.approx([0.8 * i / (len(rates) - 1) for i in range(len(rates))])
    assert not dropping(images).equal(whole)
    assert dropping.eval()(images).equal(whole)


@torch.no_grad()
def test_files_keep_every_tensor(dense, tmp_path):
    save_weights(dense, tmp_path / "net.safetensors")
    again = copy.deepcopy(dense)
    for parameter in again.parameters():
        parameter.zero_()
    report = load_weights(again, tmp_path / "net.safetensors")
    assert not (report.missing or report.unexpected or report.mismatched or report.changes)
    state = again.state_dict()
    assert all(tensor.equal(state[name]) for name, tensor in dense.state_dict().items())


@torch.no_grad()
def test_channels_last_changes_nothing(dense):
    images = torch.rand(1, 3, 64, 80)
    turned = copy.deepcopy(dense).to(memory_format=torch.channels_last)
    if min(images.shape[-2:]) < dense.image_px_min:
        images = torch.rand(1, 3, 96, 96)
    expected, found = dense.features(images), turned.features(images.to(memory_format=torch.channels_last))
    for before, after in zip(expected, found, strict=True):
        torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3 * float(before.abs().max()))


@pytest.mark.parametrize("arch", ["convnext_tiny", "vit_ti_16", "swin_t"])
def test_layers_of_the_maps_are_built_for_tasks_that_read_them_and_learn(arch):
    backbone = build(arch)
    with pytest.raises(RuntimeError, match=f"{arch}: call features_only"):
        backbone.features(torch.rand(1, 3, 32, 32))
    assert not backbone.feature_layers
    backbone.features_only()
    built = [id(p) for p in backbone.feature_layers.parameters()]
    backbone.features_only()
    assert built and [id(p) for p in backbone.feature_layers.parameters()] == built
    maps = backbone.features(torch.rand(2, 3, 64, 64))
    sum((x * torch.rand_like(x)).mean() for x in maps).backward()
    assert not [name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.any()]


@torch.no_grad()
def test_a_patch_of_the_image_is_that_patch_of_every_level_of_the_pyramid():
    """Attention spreads a change, but the patch itself changes most: rows 96 to 112, columns 160 to 176."""
    backbone = build("vit_ti_16").eval()
    backbone.features_only()
    torch.manual_seed(1)
    images = torch.rand(1, 3, 240, 256)
    spotted = images.clone()
    spotted[..., 96:112, 160:176] += 3
    maps = zip(backbone.features(images), backbone.features(spotted), backbone.strides, strict=True)
    for before, after, stride in maps:
        change = (after - before).abs().sum(1)[0]
        row, column = divmod(int(change.argmax()), change.shape[1])
        # The 3x3 convolution carries it one cell further.
        assert 96 // stride - 1 <= row <= 111 // stride + 1
        assert 160 // stride - 1 <= column <= 175 // stride + 1


@torch.no_grad()
def test_maps_of_tokens_and_of_channels_last_stages_are_upright():
    for arch in ("vit_ti_16", "swin_t"):
        backbone = build(arch).eval()
        wide = torch.zeros(1, 3, 64, 160)
        assert [x.shape[3] / x.shape[2] for x in backbone.maps(wide)] == [2.5] * 4


@torch.no_grad()
def test_images_of_no_whole_patches_are_padded():
    backbone = build("vit_ti_16").eval()
    images = torch.rand(1, 3, 50, 70)
    padded = torch.nn.functional.pad(images, (0, 10, 0, 14))
    torch.testing.assert_close(backbone(images), backbone(padded))
    with pytest.raises(ValueError, match="vit_ti_16 needs images of at least 16 px a side, got 12 px"):
        backbone(torch.rand(1, 3, 12, 90))


@pytest.mark.parametrize("arch", ["googlenet", "inception_v3"])
@torch.no_grad()
def test_stem_inception_is_torchvisions_transform_input(arch):
    backbone = build(arch, stem="inception").eval()
    net = copy.deepcopy(backbone.net)
    net.transform_input, net.fc = True, nn.Identity()
    images = torch.randn(1, 3, 96, 96)
    expected = net(images)
    # An untrained Inception v3 makes much of the last bits of its input.
    torch.testing.assert_close(backbone(images), expected, rtol=0.01, atol=1e-3 * float(expected.abs().max()))
    usual = build(arch).eval()(images)
    assert (usual - expected).abs().max() > 0.01 * expected.abs().max()
    assert backbone.features(images)[0].shape == (1, 192, 24, 24)


@torch.no_grad()
def test_stem_inception_is_the_same_for_other_networks():
    usual, other = build("vit_ti_16").eval(), build("vit_ti_16", stem="inception").eval()
    pixels = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    torch.testing.assert_close(other((pixels - mean) / std), usual((pixels - 0.5) / 0.5), rtol=1e-4, atol=1e-4)


def shapes(module, wrappers="$"):
    return {re.sub(wrappers, "", name): tensor.shape for name, tensor in module.state_dict().items()}


@pytest.fixture
def meta(monkeypatch):
    """Modules without memory, whose initialisation is left out: only names and shapes count."""
    for name in dir(nn.init):
        if name.endswith("_") and not name.startswith("_"):
            monkeypatch.setattr(nn.init, name, lambda *args, tensor=None, **_: args[0] if args else tensor)
    with torch.device("meta"):
        yield


def check_names(archs):
    for arch in archs:
        model = Classifier(backbones.build(arch), 7)
        kwargs = {"aux_logits": True, "init_weights": False} if arch in ("googlenet", "inception_v3") else {}
        if arch in ("vit_ti_16", "vit_s_16"):
            heads = {"vit_ti_16": 3, "vit_s_16": 6}[arch]
            net = torchvision.models.VisionTransformer(224, 16, 12, heads, 64 * heads, 256 * heads, num_classes=7)
        else:
            net = torchvision.models.get_model(arch, weights=None, num_classes=7, **kwargs)
        assert shapes(model, r"^(?:backbone\.net|heads)\.") == shapes(net), arch
        assert model.backbone.channels == params.channels_of(arch)


def test_names_and_shapes_are_torchvisions(meta):
    check_names((*SMALLEST, "efficientnet_v2_s", "vit_b_32", "mobilenet_v3_large"))


@pytest.mark.long
def test_names_and_shapes_are_torchvisions_in_every_architecture(meta):
    check_names(params.ARCHITECTURES)


@pytest.mark.long
@torch.no_grad()
def test_channels_are_as_declared_in_every_architecture(meta):
    for arch in params.ARCHITECTURES:
        backbone = backbones.build(arch).eval()
        assert params.image_px_min_of(arch) == backbone.image_px_min
        backbone.features_only()
        maps = backbone.features(torch.rand(1, 3, 96, 96))
        assert tuple(x.shape[1] for x in maps) == backbone.channels == params.channels_of(arch), arch
        sides = [x.shape[2] * stride for x, stride in zip(maps, params.strides_of(arch), strict=True)]
        assert sides == [96] * 4, arch
