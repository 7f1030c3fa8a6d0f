"""LoRA (Hu et al. 2021): a frozen weight W becomes W + alpha / r * B A, with A [r, in] and B [out, r].

As parametrizations of torch's own rather than PEFT's layers, which were tried (0.21): those wrap modules, so that what
reads `layer.weight` itself gets no change and no gradient (attention in torchvision's ViT and Swin), refuse grouped
convolutions unless the rank is a multiple of the groups, and import transformers in each training (3 s, 97 MB). The
price: the gradient of a whole weight is computed before it is projected.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from stages.models.adaptation.plan import Plan
from stages.models.backbone import Backbone
from stages.params.adaptation import LoraParams


class LowRank(nn.Module):
    """The change of one weight, seen as a matrix with a row an output; a filter bank's rows are flat [in * kernel].

    B starts at zero, so that the model starts as it was pretrained; A as torch initialises a linear layer.
    """

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        self.scale = alpha / rank
        self.a = nn.Parameter(torch.empty(rank, weight[0].numel()))
        self.b = nn.Parameter(torch.zeros(len(weight), rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):  # a sum in bf16 would lose the small change
            return weight + (self.scale * self.b @ self.a).view_as(weight)


def lora(backbone: Backbone, params: LoraParams) -> Plan:
    """Changes of low rank on all matrices and filter banks that are larger than these; batch norms keep statistics.

    What is smaller (depthwise filters), and biases and norms, stay as they are. Raises ValueError if nothing is larger.
    """
    backbone.net.requires_grad_(False)
    backbone.freeze_statistics()
    found = [(module, name) for module, name in _weights(backbone) if _is_larger(getattr(module, name), params.rank)]
    if not found:
        raise ValueError(f"rank {params.rank}: no weight of {backbone.arch} is larger than its change; lower the rank")
    for module, name in found:
        parametrize.register_parametrization(module, name, LowRank(getattr(module, name), params.rank, params.alpha))
    return Plan(merge=lambda: merge(backbone))


def merge(backbone: Backbone) -> None:
    """Put every weight's changed value in the place of its parts."""
    for module in [module for module in backbone.modules() if parametrize.is_parametrized(module)]:
        for name in list(module.parametrizations):  # type: ignore[arg-type]
            parametrize.remove_parametrizations(module, name, leave_parametrized=True)


def _weights(backbone: Backbone) -> Iterator[tuple[nn.Module, str]]:
    for module in backbone.net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            yield module, "weight"
        elif isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            yield module, "in_proj_weight"


def _is_larger(weight: Tensor, rank: int) -> bool:
    return weight.numel() > rank * (len(weight) + weight[0].numel())
