"""DeepLabV3 (Chen et al. 2017, "Rethinking Atrous Convolution for Semantic Image Segmentation"), torchvision's head."""

from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import DeepLabHead

from stages.models.backbone import Backbone
from stages.models.dilation import dilate
from stages.models.segmenter import Segmenter
from stages.params.segmentation import DeepLabV3Params

RATES = (6, 12, 18)  # of the three atrous convolutions at output stride 16; the paper doubles them at 8, halves at 32


def build(backbone: Backbone, num_classes: int, params: DeepLabV3Params, dropout: float, auxiliary: bool) -> Segmenter:
    """Atrous spatial pyramid pooling on the coarsest map, which has the output stride where the backbone can dilate.

    Another backbone keeps its own stride, and the rates follow it: they reach equally far in pixels of the image.
    """
    dilate(backbone, params.output_stride)
    rates = tuple(max(1, rate * 16 // backbone.strides[-1]) for rate in RATES)
    head = _CoarsestMap(DeepLabHead(backbone.channels[-1], num_classes, rates))
    return Segmenter(backbone, head, num_classes, dropout, auxiliary)


class _CoarsestMap(nn.Module):
    """A head that looks at the last map alone."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.head(maps[-1])
