"""Optimizers and learning rates against values worked out by hand."""

import math

import pytest
import torch
from torch import nn

from stages.models import backbones
from stages.models.classifier import Classifier
from stages.params.training import OptimizerParams, ScheduleParams
from stages.training.optim import build, lr_ratio, set_lr, trainable


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1, bias=False))
        self.norm, self.group, self.head = nn.LayerNorm(4), nn.GroupNorm(2, 4), nn.Linear(4, 2)


def rates(model, params):
    """Parameter name -> (learning rate, weight decay)."""
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)]: (g["lr"], g["weight_decay"]) for g in build(model, params).param_groups for p in g["params"]}


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_rates_and_decay_of_each_parameter(name):
    found = rates(Net(), OptimizerParams(name=name, lr=0.1, backbone_lr_ratio=0.2, weight_decay=0.3))
    low, high = pytest.approx(0.02), 0.1
    assert found == {
        "backbone.0.weight": (low, 0.3), "backbone.0.bias": (low, 0.0),
        "backbone.1.weight": (low, 0.0), "backbone.1.bias": (low, 0.0),
        "backbone.2.weight": (low, 0.3),
        "norm.weight": (high, 0.0), "norm.bias": (high, 0.0),
        "group.weight": (high, 0.0), "group.bias": (high, 0.0),
        "head.weight": (high, 0.3), "head.bias": (high, 0.0),
    }  # fmt: skip


def test_a_real_model_decays_matrices_and_filters_alone():
    model = Classifier(backbones.build("resnet18"), 3)
    decayed = {name for name, (_, decay) in rates(model, OptimizerParams(weight_decay=0.1)).items() if decay}
    assert decayed == {name for name, p in model.named_parameters() if p.ndim > 1}


@pytest.mark.parametrize(
    ("arch", "free"),
    [
        ("vit_ti_16", {"class_token", "encoder.pos_embedding"}),
        ("swin_v2_t", {"attn.logit_scale", "attn.cpb_mlp.0.weight", "attn.cpb_mlp.2.weight"}),
        ("swin_t", {"attn.relative_position_bias_table"}),
        ("convnext_tiny", {"layer_scale"}),
        ("mobilenet_v3_small", set()),
    ],
)
def test_embeddings_scales_and_tables_of_positions_are_not_decayed(arch, free):
    with torch.device("meta"):
        model = Classifier(backbones.build(arch), 3)
    decays = {name: decay for name, (_, decay) in rates(model, OptimizerParams(weight_decay=0.1)).items()}
    undecayed = {name for name, p in model.named_parameters() if p.ndim > 1 and not decays[name]}
    assert undecayed == {name for name in decays if name.endswith(tuple(free))} and bool(undecayed) == bool(free)
    assert not any(decays[name] for name, p in model.named_parameters() if p.ndim == 1)


def test_layers_of_feature_maps_are_as_new_as_a_head():
    with torch.device("meta"):
        model = nn.Module()
        model.backbone = backbones.build("vit_ti_16")
        model.backbone.features_only()
    found = rates(model, OptimizerParams(lr=0.1, backbone_lr_ratio=0.2))
    assert found["backbone.feature_layers.0.0.weight"][0] == 0.1
    assert found["backbone.net.conv_proj.weight"][0] == pytest.approx(0.02)


def test_what_is_frozen_is_left_out():
    model = Net()
    model.backbone.requires_grad_(False)
    assert {name.partition(".")[0] for name in rates(model, OptimizerParams())} == {"norm", "group", "head"}
    assert [id(p) for p in trainable(model)] == [id(p) for p in model.parameters() if p.requires_grad]


def test_settings_reach_the_optimizer():
    sgd = build(Net(), OptimizerParams(name="sgd", lr=0.1, momentum=0.8))
    assert isinstance(sgd, torch.optim.SGD) and sgd.defaults["momentum"] == 0.8 and sgd.defaults["nesterov"]
    assert not build(Net(), OptimizerParams(name="sgd", momentum=0.0)).defaults["nesterov"]
    adam = build(Net(), OptimizerParams(name="adam", beta2=0.9))
    assert type(adam) is torch.optim.Adam and adam.defaults["betas"] == (0.9, 0.9)
    assert type(build(Net(), OptimizerParams(name="adamw"))) is torch.optim.AdamW


def test_set_lr_is_a_share_of_each_groups_peak():
    optimizer = build(Net(), OptimizerParams(lr=0.1, backbone_lr_ratio=0.5))
    for ratio in (0.5, 0.2):
        set_lr(optimizer, ratio)
        assert sorted({g["lr"] for g in optimizer.param_groups}) == pytest.approx([0.05 * ratio, 0.1 * ratio])


def test_warm_up_rises_in_a_line_to_the_peak():
    params = ScheduleParams(name="constant", warmup_steps=4)
    assert [lr_ratio(step, 10, params) for step in range(7)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0]


def test_cosine():
    params = ScheduleParams(name="cosine", warmup_steps=2, final_ratio=0.2)
    by_hand = [0.5, 1.0, 1.0, 0.2 + 0.8 * (1 + math.sqrt(0.5)) / 2, 0.6, 0.2 + 0.8 * (1 - math.sqrt(0.5)) / 2]
    assert [lr_ratio(step, 6, params) for step in range(6)] == pytest.approx(by_hand)
    assert lr_ratio(6, 6, params) == pytest.approx(0.2)


def test_cosine_is_that_of_torch():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50)
    for step in range(50):
        assert lr_ratio(step, 50, ScheduleParams(name="cosine")) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()


def test_steps_fall_at_their_milestones():
    params = ScheduleParams(name="step", milestones=(0.5, 0.75), gamma=0.1)
    found = [lr_ratio(step, 8, params) for step in range(8)]
    assert found == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_a_warm_up_longer_than_the_training_only_rises():
    assert [lr_ratio(step, 2, ScheduleParams(warmup_steps=4)) for step in range(2)] == [0.25, 0.5]
