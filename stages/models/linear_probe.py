"""Logistic regression on fixed features."""

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.params.classification import ProbeParams


def fit_linear(features: Tensor, targets: Tensor, num_classes: int, params: ProbeParams) -> tuple[Tensor, Tensor]:
    """Weight [C, D] and bias [C] that minimise cross-entropy + l2 |W|^2 over features float [N, D], targets int64 [N].

    Targets float [N, C] are of classes each by itself: the sum of their binary cross-entropies. Features are
    standardised for the fit (L-BFGS converges fast there) and the result folded back.
    """
    mean, deviation = features.mean(0), features.std(0, correction=0).clamp_min(1e-6)
    inputs = ((features - mean) / deviation).clone()
    targets = targets.clone()
    weight = torch.zeros(num_classes, inputs.shape[1], device=inputs.device, requires_grad=True)
    bias = torch.zeros(num_classes, device=inputs.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=params.iterations, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        optimizer.zero_grad()
        with torch.enable_grad():
            loss = _cross_entropy(inputs @ weight.T + bias, targets) + params.l2 * weight.square().sum()
            loss.backward()
        return loss

    optimizer.step(objective)
    folded = weight.detach() / deviation
    return folded, bias.detach() - folded @ mean


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    if not targets.is_floating_point():
        return F.cross_entropy(logits, targets)
    return F.binary_cross_entropy_with_logits(logits, targets) * logits.shape[1]
