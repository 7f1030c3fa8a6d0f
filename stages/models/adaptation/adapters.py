"""Adapters: new layers beside frozen ones, which start as if they were not there.

Convolutions get the parallel residual adapter of Rebuffi et al. 2018 (section 3.2): a 1x1 convolution beside a k x k
one. It is the same as a change of the kernel's centre, and is written so: after the training nothing of it is left to
compute. Attention and MLP of transformers get the bottleneck of Houlsby et al. 2019 (section 2.1), which stays.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torchvision.models.swin_transformer import ShiftedWindowAttention
from torchvision.ops import MLP

from stages.models.adaptation import frozen, low_rank
from stages.models.adaptation.plan import Plan
from stages.models.backbone import Backbone
from stages.params.adaptation import AdapterParams


class CentreTap(nn.Module):
    """A 1x1 convolution with the stride and groups of a k x k one, added to the centre of its kernel."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.pointwise = nn.Parameter(torch.zeros(weight.shape[:2]))

    def forward(self, weight: Tensor) -> Tensor:
        height, width = weight.shape[2:]
        return weight + F.pad(self.pointwise[..., None, None], (width // 2, width // 2, height // 2, height // 2))


class Bottleneck(nn.Module):
    """x + up(gelu(down(x))) on the last axis; `up` starts at zero."""

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, bottleneck), nn.Linear(bottleneck, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.up(F.gelu(self.down(x)))


def adapter(backbone: Backbone, params: AdapterParams) -> Plan:
    """Adapters and norms train, as in both papers; batch norms take the statistics of the new data.

    Raises ValueError for a backbone that has neither an attention or MLP nor a convolution with a centre.
    """
    frozen.train_norms_only(backbone)
    convolutions = [m for m in backbone.net.modules() if isinstance(m, nn.Conv2d) and _has_centre(m)]
    if not insert(backbone, params.bottleneck) and not convolutions:
        raise ValueError(f"adapter: {backbone.arch} has no layer that adapters are for; choose another mode")
    for layer in convolutions:
        parametrize.register_parametrization(layer, "weight", CentreTap(layer.weight))
    return Plan(merge=lambda: low_rank.merge(backbone))


def insert(backbone: Backbone, bottleneck: int) -> int:
    """Put a bottleneck behind each attention and MLP, as `backbone.adapters`; how many there are."""
    inserted = nn.ModuleDict()
    for name, module in backbone.net.named_modules():
        width = _width(module)
        if width is not None:
            inserted[name.replace(".", "_")] = added = Bottleneck(width, bottleneck)
            module.register_forward_hook(_through(added))
    if inserted:
        backbone.add_module("adapters", inserted)
    return len(inserted)


def _through(added: Bottleneck) -> Callable[[nn.Module, Any, Any], Any]:
    """A hook that sends a module's output, or the first of its outputs, through an adapter."""

    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        return (added(output[0]), *output[1:]) if isinstance(output, tuple) else added(output)

    return hook


def _width(module: nn.Module) -> int | None:
    """Channels of a transformer's sublayer; None for any other module."""
    if isinstance(module, nn.MultiheadAttention):
        return module.embed_dim
    if isinstance(module, ShiftedWindowAttention):
        return module.qkv.in_features
    if isinstance(module, MLP):
        return next(layer.in_features for layer in module if isinstance(layer, nn.Linear))
    return None


def _has_centre(layer: nn.Conv2d) -> bool:
    return all(size % 2 for size in layer.kernel_size) and max(layer.kernel_size) > 1
