"""Batches whose images are mixed in pairs: mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019), by torchvision."""

import torch
from torch import Tensor
from torchvision.transforms import v2

from stages.params.augmentation import ClassificationAugmentation


def mixed(
    images: Tensor, targets: Tensor, num_classes: int, augmentation: ClassificationAugmentation
) -> tuple[Tensor, Tensor]:
    """Images [B, 3, H, W] and class numbers int64 [B], or shares float [B, num_classes], each mixed with the next.

    Returns images and shares float [B, num_classes], or both as they came if neither way is on. If both are, each batch
    takes one of them by chance. Draws from torch's generator on the CPU, which the loop seeds at every step.
    """
    ways = [
        way(alpha=alpha, num_classes=num_classes)
        for way, alpha in ((v2.MixUp, augmentation.mixup_alpha), (v2.CutMix, augmentation.cutmix_alpha))
        if alpha
    ]
    if not ways:
        return images, targets
    way = ways[int(torch.randint(len(ways), ()))] if len(ways) > 1 else ways[0]
    return way(images, targets)
