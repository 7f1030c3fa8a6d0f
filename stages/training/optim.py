"""Optimizers and learning rates."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import nn

from stages.models.backbone import NORMS
from stages.params.training import OptimizerParams, ScheduleParams

# Embeddings, tables of positions and scales, parts of a parameter's name. Not decayed by the authors of DeiT (class
# token, positions), Swin (position biases; in V2 also what computes them, and the scale of its logits) and ConvNeXt
# (layer scale): no_weight_decay and no_weight_decay_keywords in their models, get_parameter_groups in ConvNeXt's.
UNDECAYED = {"class_token", "pos_embedding", "relative_position_bias_table", "cpb_mlp", "logit_scale", "layer_scale"}


def build(
    model: nn.Module, params: OptimizerParams, lr_scale: Callable[[str], float] = lambda name: 1.0
) -> torch.optim.Optimizer:
    """The optimizer over a model's trainable parameters; each group keeps its peak rate as `peak_lr`.

    lr_scale: name of a parameter -> factor of its learning rate.
    """
    groups = [
        {"params": weights, "lr": lr, "peak_lr": lr, "weight_decay": decay}
        for (lr, decay), weights in _groups(model, params, lr_scale).items()
    ]
    if params.name == "sgd":
        return torch.optim.SGD(groups, lr=params.lr, momentum=params.momentum, nesterov=params.momentum > 0)
    kind = torch.optim.Adam if params.name == "adam" else torch.optim.AdamW
    return kind(groups, lr=params.lr, betas=(0.9, params.beta2), fused=True)


def _groups(
    model: nn.Module, params: OptimizerParams, lr_scale: Callable[[str], float]
) -> dict[tuple[float, float], list[nn.Parameter]]:
    """Parameters by (learning rate, weight decay): none on norms and biases (He et al. 2019, section 3.1)."""
    undecayed = {id(p) for m in model.modules() if isinstance(m, NORMS) for p in m.parameters(recurse=False)}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            is_free = id(weight) in undecayed or name.endswith("bias") or not UNDECAYED.isdisjoint(name.split("."))
            # The layers that make feature maps are as new as a head.
            is_pretrained = name.startswith("backbone.") and not name.startswith("backbone.feature_layers.")
            lr = params.lr * (params.backbone_lr_ratio if is_pretrained else 1.0) * lr_scale(name)
            groups.setdefault((lr, 0.0 if is_free else params.weight_decay), []).append(weight)
    return groups


def lr_ratio(step: int, steps: int, params: ScheduleParams) -> float:
    """Learning rate at a step (from 0) over its peak: linear warm-up, then constant, cosine or steps.

    Source: cosine as in Loshchilov & Hutter 2017, equation 5, without restarts.
    """
    if step < params.warmup_steps:
        return (step + 1) / params.warmup_steps
    progress = (step - params.warmup_steps) / max(1, steps - params.warmup_steps)
    if params.name == "cosine":
        return params.final_ratio + (1 - params.final_ratio) * (1 + math.cos(math.pi * progress)) / 2
    if params.name == "step":
        return params.gamma ** sum(step >= share * steps for share in params.milestones)
    return 1.0


def set_lr(optimizer: torch.optim.Optimizer, ratio: float) -> None:
    """Set every group's learning rate to a share of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * ratio


def trainable(model: nn.Module) -> Iterable[nn.Parameter]:
    """The parameters that gradients reach."""
    return (p for p in model.parameters() if p.requires_grad)
