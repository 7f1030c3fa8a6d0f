"""Which tensors each mode lets change, batch norms' statistics among them."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from stages.models import backbones
from stages.models.adaptation.adapt import adapt
from stages.models.classifier import Classifier
from stages.params.adaptation import MODES, BnFrozenParams, NormOnlyParams

HEAD = {"heads.fc.weight", "heads.fc.bias"}
KINDS = {
    "weight": ("0.weight",), "bias": ("0.bias",), "norm": ("1.weight", "1.bias"),
    "norm_bias": ("1.bias",), "statistics": ("1.running_mean", "1.running_var", "1.num_batches_tracked"),
}  # fmt: skip


def names(stages, *kinds):
    return {f"backbone.net.layer{i}.{name}" for i in stages for kind in kinds for name in KINDS[kind]}


ALL = range(1, 5)


@pytest.mark.parametrize(
    ("mode", "keys", "expected"),
    [
        ("full", {}, names(ALL, "weight", "bias", "norm", "statistics")),
        ("layer_decay", {"decay": 0.9}, names(ALL, "weight", "bias", "norm", "statistics")),
        ("head", {}, set()),
        ("last_k", {}, names([4], "weight", "bias", "norm", "statistics")),
        ("last_k", {"k": 3}, names([2, 3, 4], "weight", "bias", "norm", "statistics")),
        ("last_k", {"k": 2, "freeze_norm": True}, names([3, 4], "weight", "bias")),
        ("bn_frozen", {}, names(ALL, "weight", "bias")),
        ("norm_only", {}, names(ALL, "norm", "statistics")),
        ("bitfit", {}, names(ALL, "bias", "norm_bias")),
    ],
)
def test_what_a_step_changes(parts, mode, keys, expected):
    model, plan = parts.adapted(mode, **keys)
    changed = parts.changed_by_a_step(model, plan)
    # A bias before a batch norm that takes its batch's statistics has a gradient of rounding errors alone.
    moot = names(ALL, "bias") if mode not in ("bn_frozen", "bitfit") else set()
    assert changed - moot == (HEAD | expected) - moot
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        name for name in HEAD | expected if name in dict(model.named_parameters())
    }


@pytest.mark.parametrize("mode", MODES)
def test_the_layers_that_make_maps_are_new_and_train_whole(parts, mode):
    """A transformer's simple feature pyramid is not pretrained: frozen, it would stay random."""
    model = parts.small()
    model.backbone.layout = replace(model.backbone.layout, feature_layers=lambda: [nn.Conv2d(8, 8, 3)])
    model.backbone.features_only()
    adapt(model, MODES[mode]()).at(0, 10)
    trained = {name: p.requires_grad for name, p in model.backbone.feature_layers.named_parameters()}
    assert trained == {"0.weight": True, "0.bias": True}


def test_dropout_of_what_trains_stays_on_and_that_of_what_is_frozen_is_off(parts):
    for mode, is_on in {"full": True, "last_k": True, "bitfit": True, "norm_only": True, "head": False}.items():
        model, _ = parts.adapted(mode)
        model.train()
        assert model.backbone.net.layer4[3].training is is_on, mode


def test_a_mode_that_finds_nothing_names_the_one_that_says_so():
    with torch.device("meta"):
        model = Classifier(backbones.build("vgg11"), 2)
    with pytest.raises(ValueError, match="bn_frozen: vgg11 has no batch norms, nothing would be frozen; write full"):
        adapt(model, BnFrozenParams())
    with pytest.raises(ValueError, match="norm_only: vgg11 has no norms, nothing of it would train; write head"):
        adapt(model, NormOnlyParams())


def test_the_share_that_trains_is_counted_by_hand(parts):
    weights = {"conv": 3 * 8 * 9 + 8 * 12 * 9 + 12 * 16 * 9 + 16 * 24 * 9, "bias": 8 + 12 + 16 + 24}
    head, total = 24 * 5 + 5, weights["conv"] + 3 * weights["bias"] + 24 * 5 + 5
    for mode, trained in {"full": total, "head": head, "norm_only": head + 2 * 60, "bitfit": head + 2 * 60}.items():
        assert parts.adapted(mode)[1].trainable_percent == pytest.approx(100 * trained / total), mode
    assert parts.adapted("gradual")[1].trainable_percent == 100


def test_full_changes_nothing_in_the_model(parts):
    model, plan = parts.adapted("full")
    plain = parts.small()
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), plain.state_dict().values(), strict=True))
    plan.at(0, 1)
    plan.merge()
    assert list(model.state_dict()) == list(plain.state_dict()) and plan.lr_scale("backbone.net.layer1.0.weight") == 1.0
