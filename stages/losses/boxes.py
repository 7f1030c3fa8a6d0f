"""Losses of one-stage detectors that torchvision does not have as functions."""

import torch
import torch.nn.functional as F
from torch import Tensor


def quality_focal_loss(logits: Tensor, quality: Tensor, gamma: float = 2.0) -> Tensor:
    """Cross-entropy against a target in [0, 1], weighted by how far off the score is (Li et al. 2020, equation 2).

    logits and quality: float32 of one shape, which the result has. With targets 0 and 1 it is the focal loss of Lin et
    al. 2017 without its alpha; on all places it is the class loss of TOOD (Feng et al. 2021, equation 8).
    """
    distance = (quality - logits.sigmoid()).abs()
    return distance**gamma * F.binary_cross_entropy_with_logits(logits, quality, reduction="none")


def distribution_focal_loss(logits: Tensor, distances: Tensor) -> Tensor:
    """Cross-entropy of the two bins around a distance, weighted by nearness (Li et al. 2020, equation 6).

    logits: float32 [..., bins], bin i stands for the distance i; distances: float32 [...], cut to what bins can say.
    Returns float32 [...].
    """
    distances = distances.clamp(min=0, max=logits.shape[-1] - 1)
    low = distances.floor().long().clamp(max=logits.shape[-1] - 2)
    share_of_high = distances - low
    log_p = logits.log_softmax(dim=-1)
    at = [log_p.gather(-1, place[..., None]).squeeze(-1) for place in (low, low + 1)]
    return -(at[0] * (1 - share_of_high) + at[1] * share_of_high)


def multibox_losses(
    class_logits: Tensor,
    box_regression: Tensor,
    labels: Tensor,
    deltas: Tensor,
    negatives_per_positive: float,
    label_smoothing: float = 0.0,
) -> dict[str, Tensor]:
    """SSD's two losses (Liu et al. 2016, equation 1), averaged over the positives of the batch.

    class_logits: float32 [B, N, C + 1]; box_regression and deltas: float32 [B, N, 4]; labels: int64 [B, N], 0:
    background. Of each image's negatives the hardest count, so many a positive; where an image has no positive, as many
    as for one, so that it teaches what is background (torchvision lets it teach nothing).
    """
    class_loss = F.cross_entropy(
        class_logits.transpose(1, 2), labels, reduction="none", label_smoothing=label_smoothing
    )
    is_positive = labels > 0
    num_negatives = negatives_per_positive * is_positive.sum(dim=1, keepdim=True).clamp(min=1)
    hardness = class_loss.detach().masked_fill(is_positive, -torch.inf)
    rank = hardness.sort(dim=1, descending=True, stable=True).indices.argsort(dim=1)
    is_counted = is_positive | ((rank < num_negatives) & ~is_positive)
    num_positive = max(int(is_positive.sum()), 1)
    box_loss = F.smooth_l1_loss(box_regression[is_positive], deltas[is_positive], reduction="sum")
    return {
        "loss_classifier": class_loss[is_counted].sum() / num_positive,
        "loss_box_reg": box_loss / num_positive,
    }
