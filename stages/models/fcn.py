"""Fully convolutional networks (Long et al. 2015), on torchvision's FCNHead."""

from torch import Tensor, nn
from torchvision.models.segmentation.fcn import FCNHead

from stages.models.backbone import Backbone
from stages.models.segmenter import Segmenter, upsampled
from stages.params.segmentation import FCNParams


def build(backbone: Backbone, num_classes: int, params: FCNParams, dropout: float, auxiliary: bool) -> Segmenter:
    """FCN-32s, FCN-16s or FCN-8s by the stride of the finest map that it looks at."""
    return Segmenter(
        backbone, SkipHead(backbone, num_classes, params.finest_stride_px), num_classes, dropout, auxiliary
    )


class SkipHead(nn.Module):
    """Scores of the coarsest map, to which those of finer maps are added (Long et al. 2015, section 4.2).

    The coarsest scores come from FCNHead, the others from one 1x1 convolution each, which starts at zero as in the
    paper: the network begins as FCN-32s. Scaling is bilinear, not learned.
    """

    def __init__(self, backbone: Backbone, num_classes: int, finest_stride_px: int) -> None:
        super().__init__()
        self.coarsest = FCNHead(backbone.channels[-1], num_classes)
        pairs = zip(backbone.strides[:-1], backbone.channels[:-1], strict=True)
        skips = [channels for stride, channels in pairs if stride >= finest_stride_px]
        self.skips = nn.ModuleList(nn.Conv2d(channels, num_classes, 1) for channels in skips)
        for skip in self.skips:
            nn.init.zeros_(skip.weight)  # type: ignore[arg-type]
            nn.init.zeros_(skip.bias)  # type: ignore[arg-type]

    def forward(self, maps: list[Tensor]) -> Tensor:
        scores = self.coarsest(maps[-1])
        finer = maps[-1 - len(self.skips) : -1]
        for skip, x in zip(reversed(self.skips), reversed(finer), strict=True):
            scores = upsampled(scores, (x.shape[-2], x.shape[-1])) + skip(x).float()
        return scores
