"""Adapters against the layers of the papers, what trains, and what stays in the model."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from stages.models import backbones
from stages.models.adaptation.adapt import adapt, restore
from stages.models.adaptation.adapters import Bottleneck, CentreTap, adapter
from stages.models.backbone import Backbone, Layout
from stages.models.classifier import Classifier
from stages.models.weights import load_weights, save_weights
from stages.params.adaptation import AdapterParams, FullParams


@pytest.mark.parametrize(
    ("kernel", "stride", "groups"), [((3, 3), 1, 1), ((3, 3), 2, 1), ((7, 7), 2, 1), ((1, 7), 1, 1), ((3, 3), 1, 4)]
)
def test_a_changed_centre_is_a_pointwise_convolution_beside(kernel, stride, groups):
    torch.manual_seed(0)
    padding = [size // 2 for size in kernel]
    layer, x = nn.Conv2d(8, 12, kernel, stride, padding, groups=groups), torch.rand(2, 8, 15, 15)
    tap = CentreTap(layer.weight)
    assert torch.equal(tap(layer.weight), layer.weight)
    nn.init.normal_(tap.pointwise)
    beside = F.conv2d(x, tap.pointwise[..., None, None], stride=stride, groups=groups)
    found = F.conv2d(x, tap(layer.weight), layer.bias, stride, padding, groups=groups)
    torch.testing.assert_close(found, layer(x) + beside, atol=1e-5, rtol=1e-5)


def test_a_bottleneck_starts_as_nothing():
    x = torch.rand(2, 5, 8)
    assert torch.equal(Bottleneck(8, 3)(x), x)


def test_adapters_norms_and_head_train_and_the_plain_model_is_left(parts):
    model, plan = parts.adapted("adapter")
    plain = parts.small()
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(model.eval()(images).main, plain.eval()(images).main)
    changed = parts.changed_by_a_step(model, plan)
    layers = [f"backbone.net.layer{i}" for i in range(1, 5)]
    statistics = {f"{n}.1.{s}" for n in layers for s in ("running_mean", "running_var", "num_batches_tracked")}
    taps = {f"{n}.0.parametrizations.weight.0.pointwise" for n in layers}
    norms = {f"{n}.1.{s}" for n in layers for s in ("weight", "bias")}
    assert changed == {"heads.fc.weight", "heads.fc.bias"} | statistics | taps | norms
    with torch.no_grad():
        expected = model.eval()(images).main
        plan.merge()
        torch.testing.assert_close(model.eval()(images).main, expected, rtol=0, atol=1e-5)
    assert model.state_dict().keys() == plain.state_dict().keys()


def transformer(kind):
    """A small transformer as a backbone whose one stage is the whole network, and a head."""
    torch.manual_seed(0)
    if kind == "vit":
        net = torchvision.models.VisionTransformer(32, 16, 2, 2, 32, 64, num_classes=24)
        nn.init.normal_(net.heads.head.weight)  # which torchvision leaves at zero
    else:
        net = torchvision.models.SwinTransformer([4, 4], 16, [1, 1], [2, 2], [4, 4], num_classes=24)
    model = nn.Module()
    model.backbone = Backbone(kind, net, Layout(((),), (24,), (32,), 24, 32, nn.Linear))
    model.heads = nn.Linear(24, 3)
    return model


@pytest.mark.parametrize("kind", ["vit", "swin"])
def test_transformers_keep_their_adapters_and_are_rebuilt_with_them(kind, tmp_path):
    model, images = transformer(kind), torch.rand(2, 3, 32, 32)
    expected = model.backbone.net.eval()(images)
    params = AdapterParams(bottleneck=4)
    plan = adapt(model, params)
    assert torch.equal(model.backbone.net.eval()(images), expected)
    added = {name for name, p in model.named_parameters() if ".adapters." in name and p.requires_grad}
    assert len(added) == 2 * 2 * 4, "weight and bias of two layers, behind attention and MLP of two blocks"
    for name in added:
        nn.init.normal_(model.get_parameter(name), std=0.1)
    plan.merge()
    moved = model.backbone.net.eval()(images)
    assert not torch.allclose(moved, expected)
    moved.square().mean().backward()
    assert all(model.get_parameter(name).grad.any() for name in added)
    save_weights(model, tmp_path / "weights.safetensors")

    again = transformer(kind)
    restore(again, params)
    report = load_weights(again, tmp_path / "weights.safetensors")
    assert not report.missing and not report.mismatched and not report.unexpected
    assert torch.equal(again.backbone.net.eval()(images), moved)
    with pytest.raises(ValueError, match=r"unexpected: backbone\.adapters"):
        load_weights(transformer(kind), tmp_path / "weights.safetensors")


def test_only_this_mode_leaves_something_in_a_model(parts):
    model = transformer("vit")
    names = list(model.state_dict())
    restore(model, FullParams())
    assert list(model.state_dict()) == names


def test_a_backbone_without_a_place_for_them_is_refused():
    backbone = Backbone("pointwise", nn.Sequential(nn.Conv2d(3, 4, 1)), Layout(((),), (), (), 0, 1, nn.Linear))
    with pytest.raises(ValueError, match="adapter: pointwise has no layer that adapters are for"):
        adapter(backbone, AdapterParams())


def test_a_resnet_gets_one_beside_each_filter_bank_larger_than_a_pixel():
    model = Classifier(backbones.build("resnet18"), 3)
    plan = adapt(model, AdapterParams())
    added = [name for name, _ in model.named_parameters() if name.endswith("pointwise")]
    assert len(added) == 17, "the stem and two in each of eight blocks"
    assert plan.trainable_percent == pytest.approx(9.936, abs=1e-3)
