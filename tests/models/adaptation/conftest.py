"""A classifier of four small stages, each a convolution with a batch norm, and a step that trains it."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from stages.models.adaptation.adapt import adapt
from stages.models.adaptation.plan import Plan
from stages.models.backbone import Backbone, Layout
from stages.models.classifier import Classifier
from stages.params.adaptation import MODES

WIDTHS = (8, 12, 16, 24)


def block(inputs: int, width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU())


def small() -> Classifier:
    """Random, the same each time; a dropout in its last stage shows what is in eval mode."""
    torch.manual_seed(0)
    net = nn.Module()
    for i, (inputs, width) in enumerate(zip((3, *WIDTHS), WIDTHS, strict=False), start=1):
        net.add_module(f"layer{i}", block(inputs, width))
    net.layer4.append(nn.Dropout(0.5))
    net.add_module("avgpool", nn.AdaptiveAvgPool2d(1))
    layout = Layout(
        stages=tuple((f"layer{i}",) for i in range(1, 5)),
        channels=WIDTHS,
        strides=(2, 4, 8, 16),
        num_features=WIDTHS[-1],
        image_px_min=1,
        head=lambda num_classes: nn.Linear(WIDTHS[-1], num_classes),
    )
    return Classifier(Backbone("small", net, layout), 5)


def changed_by_a_step(model: nn.Module, plan: Plan = Plan(), step: int = 0, steps: int = 10) -> set[str]:
    """Names in the state dict that one step of SGD at a high rate changes."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    plan.at(step, steps)
    model.train()
    torch.manual_seed(step)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    model(torch.rand(6, 3, 32, 32)).main.square().mean().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return {name for name, tensor in model.state_dict().items() if not tensor.equal(before[name])}


def adapted(mode: str, **keys: object) -> tuple[Classifier, Plan]:
    model = small()
    return model, adapt(model, MODES[mode].model_validate({"mode": mode, **keys}))


@pytest.fixture
def parts() -> SimpleNamespace:
    """The functions above."""
    functions: tuple[Callable, ...] = (small, changed_by_a_step, adapted)
    return SimpleNamespace(**{function.__name__: function for function in functions})
