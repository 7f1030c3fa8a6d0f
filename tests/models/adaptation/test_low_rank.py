"""LoRA: starts as the plain model, moves weights by low rank only, and leaves the plain model behind."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from stages.models import backbones
from stages.models.adaptation.adapt import adapt
from stages.models.adaptation.low_rank import LowRank, lora, merge
from stages.models.backbone import Backbone, Layout
from stages.models.classifier import Classifier
from stages.params.adaptation import LoraParams


def weights(model):
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def bare(net):
    """A network alone as the backbone that LoRA is given."""
    return Backbone("bare", net, Layout(((),), (), (), 0, 1, nn.Linear))


def test_a_trained_and_merged_model_answers_as_before_the_merge_and_moved_by_low_rank():
    torch.manual_seed(0)
    model = Classifier(backbones.build("resnet18"), 5)
    before, images = weights(model), torch.rand(4, 3, 64, 64)
    plan = adapt(model, LoraParams(rank=3, alpha=6))
    assert torch.equal(model.eval()(images).main, model.eval()(images).main)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    for _ in range(3):
        model.train()
        optimizer.zero_grad()
        F.cross_entropy(model(images).main, torch.arange(4)).backward()
        optimizer.step()
    with torch.no_grad():
        expected = model.eval()(images).main
        plan.merge()
        torch.testing.assert_close(model.eval()(images).main, expected, rtol=0, atol=1e-5)
    after = weights(model)
    assert after.keys() == before.keys(), "names of the plain model"
    assert all(after[name].shape == before[name].shape for name in before)
    moved = {name for name in before if not torch.equal(after[name], before[name])}
    filters = {f"backbone.net.{n}.weight" for n, m in model.backbone.net.named_modules() if isinstance(m, nn.Conv2d)}
    assert moved == {"heads.fc.weight", "heads.fc.bias"} | filters
    for name in sorted(name for name in filters if before[name].numel() < 80_000):
        change = (after[name] - before[name]).flatten(1).double()
        values = torch.linalg.svdvals(change)
        assert values[0] > 1e-3 and values[3:].max() < 1e-5 * values[0].clamp(min=1), name


def test_it_starts_as_the_plain_model(parts):
    model, plain = parts.adapted("lora", rank=2)[0].eval(), parts.small().eval()
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(model(images).main, plain(images).main)


def test_the_change_is_that_of_the_paper():
    """Of a linear layer: W x + alpha / r B A x; of a convolution: one with A's filters, then one of 1x1 with B."""
    torch.manual_seed(0)
    linear, conv = nn.Linear(6, 4), nn.Conv2d(3, 8, 3, stride=2, padding=1)
    for layer, x in ((linear, torch.rand(5, 6)), (conv, torch.rand(2, 3, 9, 9))):
        part = LowRank(layer.weight, rank=2, alpha=5)
        nn.init.normal_(part.b)
        if layer is linear:
            expected = layer(x) + 5 / 2 * (x @ part.a.T) @ part.b.T
            found = F.linear(x, part(layer.weight), layer.bias)
        else:
            inner = F.conv2d(x, part.a.view(2, 3, 3, 3), stride=2, padding=1)
            expected = layer(x) + 5 / 2 * F.conv2d(inner, part.b[..., None, None])
            found = F.conv2d(x, part(layer.weight), layer.bias, stride=2, padding=1)
        torch.testing.assert_close(found, expected)


def test_only_the_changes_and_the_head_train_and_statistics_stay(parts):
    model, plan = parts.adapted("lora", rank=2)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {
        "heads.fc.weight", "heads.fc.bias",
        *(f"backbone.net.layer{i}.0.parametrizations.weight.0.{part}" for i in range(1, 5) for part in "ab"),
    }  # fmt: skip
    assert not [name for name in parts.changed_by_a_step(model, plan) if "running" in name or "original" in name]
    assert plan.trainable_percent < 20


def test_bf16_rounds_no_change_away(parts):
    model, _ = parts.adapted("lora", rank=2)
    part = model.backbone.net.layer1[0].parametrizations.weight[0]
    nn.init.normal_(part.b, std=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        inside = model.backbone.net.layer1[0].weight
    assert inside.dtype == torch.float32 and torch.equal(inside, model.backbone.net.layer1[0].weight)


@pytest.mark.parametrize("arch", ["vit", "swin", "depthwise"])
def test_every_matrix_of_other_networks_has_a_gradient(arch):
    """torchvision's attention reads its layers' weights itself, without calling them."""
    torch.manual_seed(0)
    if arch == "vit":
        net = torchvision.models.VisionTransformer(32, 16, 2, 2, 32, 64, num_classes=3)
        nn.init.normal_(net.heads.head.weight)  # which torchvision leaves at zero
        expected = 1 + 2 * 4 + 1
    elif arch == "swin":
        net = torchvision.models.SwinTransformer([4, 4], 16, [1, 1], [2, 2], [4, 4], num_classes=3)
        expected = 1 + 4 + 1 + 4 + 1
    else:
        net = nn.Sequential(nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3, groups=32), nn.Conv2d(32, 64, 3, groups=4))
        expected = 2  # of 9 weights a channel rank 8 saves nothing
    backbone = bare(net)
    plain = weights(net)
    lora(backbone, LoraParams(rank=8 if arch == "depthwise" else 1))
    output = net(torch.rand(2, 3, 32, 32))
    output.square().mean().backward()
    trained = {name: p for name, p in net.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * expected
    assert all(p.grad is not None and (name.endswith("a") or p.grad.any()) for name, p in trained.items())
    merge(backbone)
    assert net.state_dict().keys() == plain.keys()


def test_a_rank_that_saves_nothing_is_refused(parts):
    with pytest.raises(ValueError, match="rank 1000: no weight of small is larger than its change; lower the rank"):
        parts.adapted("lora", rank=1000)
