"""Losses over the pixels of a batch, of which some are not labelled."""

import torch
import torch.nn.functional as F
from torch import Tensor


def pixel_cross_entropy(
    logits: Tensor, targets: Tensor, ignored: int, weight: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Mean cross-entropy of float [B, C, H, W] against int64 [B, H, W]; 0 where every pixel is ignored.

    With class weights [C] the mean is weighted by those of the true classes, as torch's own is.
    """
    loss = F.cross_entropy(
        logits, targets, weight, ignore_index=ignored, reduction="sum", label_smoothing=label_smoothing
    )
    is_labelled = targets != ignored
    labelled = targets[is_labelled]
    total = weight[labelled].sum() if weight is not None else is_labelled.sum()
    return loss / total.clamp(min=1e-6)


def dice_loss(logits: Tensor, targets: Tensor, ignored: int) -> Tensor:
    """1 - soft Dice, averaged over the classes that the batch shows; 0 where every pixel is ignored.

    logits float [B, C, H, W], targets int64 [B, H, W]. Source: Milletari et al. 2016, "V-Net", section 3, whose squared
    denominator is kept; over the whole batch, so that a class needs not be in each image.
    """
    is_labelled = (targets != ignored)[:, None]
    truth = F.one_hot(targets.where(targets != ignored, 0), logits.shape[1]).permute(0, 3, 1, 2) * is_labelled
    found = logits.softmax(1) * is_labelled
    common = (found * truth).sum((0, 2, 3))
    size = (found.square() + truth).sum((0, 2, 3))
    is_shown = truth.sum((0, 2, 3)) > 0
    dice = torch.where(is_shown, 2 * common / size.clamp(min=1e-6), 1.0)
    return (1 - dice).sum() / is_shown.sum().clamp(min=1)


def median_frequency_weights(pixels: Tensor, areas: Tensor) -> Tensor:
    """Weights [C] of classes, from their pixels [C] and the labelled pixels [C] of the images that show each.

    The median of the classes' frequencies over that of each; 1 for a class that no image shows. Source: median
    frequency balancing of Eigen and Fergus 2015, but that pixels without a label do not count.
    """
    is_shown = pixels > 0
    if not is_shown.any():
        return torch.ones(len(pixels))
    frequency = pixels.double() / areas.double().clamp(min=1)
    middle = frequency[is_shown].quantile(0.5)
    return torch.where(is_shown, middle / frequency.clamp(min=1e-12), 1.0).float()
