"""Lite R-ASPP (Howard et al. 2019, "Searching for MobileNetV3", section 6.4), on torchvision's head."""

from torch import Tensor, nn
from torchvision.models.segmentation.lraspp import LRASPPHead

from stages.models.backbone import Backbone
from stages.models.dilation import dilate
from stages.models.segmenter import Segmenter
from stages.params.segmentation import LRASPPParams

OUTPUT_STRIDE, DETAIL_STRIDE = 16, 8  # of the coarsest map, and of the finer one that adds detail


def build(backbone: Backbone, num_classes: int, params: LRASPPParams, dropout: float, auxiliary: bool) -> Segmenter:
    """A light head on two maps: the coarsest, gated by its global average, and the last of stride 8 or less."""
    dilate(backbone, OUTPUT_STRIDE)
    head = _TwoMaps(backbone, num_classes, params.channels)
    return Segmenter(backbone, head, num_classes, dropout, auxiliary)


class _TwoMaps(nn.Module):
    """torchvision's head on two of the maps."""

    def __init__(self, backbone: Backbone, num_classes: int, channels: int) -> None:
        super().__init__()
        fine = [i for i, stride in enumerate(backbone.strides[:-1]) if stride <= DETAIL_STRIDE]
        self.detail = max(fine, default=0)
        self.head = LRASPPHead(backbone.channels[self.detail], backbone.channels[-1], num_classes, channels)

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.head({"low": maps[self.detail], "high": maps[-1]})
