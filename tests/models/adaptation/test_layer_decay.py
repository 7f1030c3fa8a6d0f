"""Learning rates by stage, from the model's names to the optimizer's groups."""

import pytest
import torch

from stages.models import backbones
from stages.models.adaptation.adapt import adapt
from stages.models.classifier import Classifier
from stages.params.adaptation import LayerDecayParams
from stages.params.training import OptimizerParams
from stages.training import optim


def test_each_stage_learns_more_slowly_than_the_next(parts):
    model, plan = parts.adapted("layer_decay", decay=0.5)
    optimizer = optim.build(model, OptimizerParams(lr=0.8, backbone_lr_ratio=0.5, weight_decay=0.1), plan.lr_scale)
    names = {id(p): name for name, p in model.named_parameters()}
    found = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert found.keys() == set(names.values())
    rates = {1: 0.025, 2: 0.05, 3: 0.1, 4: 0.2}
    for name, rate in found.items():
        stage = int(name.split(".layer")[1][0]) if ".layer" in name else None
        assert rate == pytest.approx(rates.get(stage, 0.8)), name


@pytest.mark.parametrize(
    ("arch", "expected"),
    [
        ("resnet18", {"conv1.weight": 4, "bn1.bias": 4, "layer1.0.bn1.weight": 4, "layer2.0.conv1.weight": 3,
                      "layer4.1.conv2.weight": 1}),
        ("vgg11", {"features.0.weight": 4, "features.18.bias": 2, "classifier.0.weight": 1}),
        ("googlenet", {"conv1.conv.weight": 4, "inception5b.branch1.conv.weight": 1}),
    ],
)  # fmt: skip
def test_stem_and_hidden_layers_belong_to_the_first_and_last_stage(arch, expected):
    with torch.device("meta"):  # names are enough
        model = Classifier(backbones.build(arch), 2, auxiliary=False)
    scale = adapt(model, LayerDecayParams(decay=0.5)).lr_scale
    assert {name: scale(f"backbone.net.{name}") for name in expected} == {n: 0.5**p for n, p in expected.items()}
    assert scale("heads.fc.weight") == 1.0
    assert set(model.backbone.parameter_stages().values()) <= {0, 1, 2, 3}
