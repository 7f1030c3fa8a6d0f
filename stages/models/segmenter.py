"""A network that classifies every pixel: a backbone's feature maps, a head on them, its scores scaled to the image."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.segmentation.fcn import FCNHead

from stages.models.backbone import Backbone


class PixelScores(NamedTuple):
    """Scores float32 [B, C, H, W] at the size of the images, and those of the auxiliary head while training."""

    main: Tensor
    auxiliary: Tensor | None = None


class Segmenter(nn.Module):
    """A head on feature maps and, while training, an auxiliary one on the map before the coarsest.

    head: takes the list of feature maps, finest first, and returns scores float [B, C, h, w]. The auxiliary head is
    torchvision's FCNHead (its loss as in Zhao et al. 2017, "Pyramid Scene Parsing Network", section 3.3).
    """

    def __init__(self, backbone: Backbone, head: nn.Module, num_classes: int, dropout: float, auxiliary: bool) -> None:
        super().__init__()
        backbone.features_only()
        self.backbone = backbone
        self.head = head
        self.auxiliary = FCNHead(backbone.channels[-2], num_classes) if auxiliary else None
        for part in (self.head, self.auxiliary):
            for layer in part.modules() if part is not None else ():
                if isinstance(layer, nn.Dropout):
                    layer.p = dropout

    def forward(self, images: Tensor) -> PixelScores:
        """Scores of images float [B, 3, H, W]; `auxiliary` is None in eval mode."""
        maps = self.backbone.features(images)
        size = (images.shape[-2], images.shape[-1])
        main = upsampled(self.head(maps), size)
        if self.auxiliary is None or not self.training:
            return PixelScores(main)
        return PixelScores(main, upsampled(self.auxiliary(maps[-2]), size))


def upsampled(scores: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Scores [B, C, h, w] bilinearly to float32 [B, C, H, W]; in bfloat16 close scores would be equal."""
    return F.interpolate(scores.float(), size_hw, mode="bilinear", align_corners=False)
