"""The small classifier in a mode, and a step that trains it."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from stages.models.adaptation.adapt import adapt
from stages.models.adaptation.plan import Plan
from stages.params.adaptation import MODES


def changed_by_a_step(model: nn.Module, plan: Plan, step: int = 0, steps: int = 10) -> set[str]:
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


@pytest.fixture
def parts(small_classifier: Callable[[], Any]) -> SimpleNamespace:
    """The small classifier plain and in a mode, and the function above."""

    def adapted(mode: str, **keys: object) -> tuple[Any, Plan]:
        model = small_classifier()
        return model, adapt(model, MODES[mode].model_validate({"mode": mode, **keys}))

    return SimpleNamespace(small=small_classifier, adapted=adapted, changed_by_a_step=changed_by_a_step)
