"""A mode of params.yaml -> a model made ready for it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from stages.models.adaptation import adapters, frozen, gradual, layer_decay, low_rank
from stages.models.adaptation.plan import Plan
from stages.models.backbone import Backbone
from stages.params.adaptation import AdaptationParams, AdapterParams

# Each takes the backbone and the mode's section; every parameter that ever trains requires a gradient afterwards.
MODES: Mapping[str, Callable[[Backbone, Any], Plan]] = {
    "full": lambda backbone, params: Plan(),
    "head": frozen.head,
    "last_k": frozen.last_k,
    "gradual": gradual.gradual,
    "bn_frozen": frozen.bn_frozen,
    "norm_only": frozen.norm_only,
    "bitfit": frozen.bitfit,
    "lora": low_rank.lora,
    "adapter": adapters.adapter,
    "layer_decay": layer_decay.layer_decay,
}


def adapt(model: nn.Module, params: AdaptationParams) -> Plan:
    """Make the model's `.backbone` ready to be trained in a mode; what is beside it trains whole in all of them.

    Raises ValueError where a backbone has not what the mode needs.
    """
    backbone: Any = model.backbone
    plan = MODES[params.mode](backbone, params)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return replace(plan, trainable_percent=100 * trained / sum(p.numel() for p in model.parameters()))


def restore(model: nn.Module, params: AdaptationParams) -> None:
    """Give a plain model the modules that a training in this mode leaves in it, untrained."""
    backbone: Any = model.backbone
    if isinstance(params, AdapterParams):
        adapters.insert(backbone, params.bottleneck)
