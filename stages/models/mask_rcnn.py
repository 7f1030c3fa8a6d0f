"""Mask R-CNN (He et al. 2017): Faster R-CNN with a head that outlines each object, from torchvision's parts."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import roi_align

from stages.models.backbone import Backbone
from stages.models.faster_rcnn import FasterRCNN
from stages.models.roi_align import PyramidRoIAlign
from stages.params.detectors import FasterRCNNParams
from stages.params.instance_segmentation import MaskHeadParams

_REGIONS_AT_ONCE = 256  # in the head when it answers: the maps of all regions of a batch may not fit into memory

PlacedMask = tuple[Tensor, int, int]  # pixels uint8 [h, w], 1 where the object is; left and top of them on the canvas


class MaskRCNN(FasterRCNN):
    """As FasterRCNN; targets also have `masks`, and detections, too.

    Target masks: for each object a PlacedMask, or None for one that trains nothing but its box. Detected masks: float32
    [N, S, S], probabilities of the object's own class in S x S cells over its box.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        params: FasterRCNNParams,
        mask_head: MaskHeadParams,
        label_smoothing: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(backbone, num_classes, params, label_smoothing, dropout)
        self.roi_heads.add_head(_MaskHead(self.strides, params.fpn_channels, num_classes, mask_head))


class _MaskHead(nn.Module):
    """Convolutions over a region's features, one mask a class; class 0, the background, is never read."""

    def __init__(self, strides: tuple[int, ...], in_channels: int, num_classes: int, params: MaskHeadParams) -> None:
        super().__init__()
        self.pool = PyramidRoIAlign(strides, params.roi_cells)
        self.layers = MaskRCNNHeads(in_channels, (params.channels,) * params.layers, dilation=1)
        self.predictor = MaskRCNNPredictor(params.channels, params.channels, num_classes + 1)

    def forward(self, pyramid: dict[str, Tensor], regions: list[Tensor], labels: Tensor) -> Tensor:
        """Logits float32 [K, S, S] of the masks of regions, each of its own class: labels int64 [K]."""
        logits: Tensor = self.predictor(self.layers(self.pool(pyramid, regions, [])))
        return logits.float()[torch.arange(len(labels), device=labels.device), labels]

    def losses(
        self, pyramid: dict[str, Tensor], regions: list[Tensor], matched: list[Tensor], targets: list[dict[str, Any]]
    ) -> dict[str, Tensor]:
        """The mean of the cells' binary cross-entropies (section 3), over the regions whose object has a mask."""
        masked = [
            torch.tensor([target["masks"][i] is not None for i in places.tolist()], dtype=torch.bool, device=box.device)
            for box, places, target in zip(regions, matched, targets, strict=True)
        ]
        regions = [box[is_masked] for box, is_masked in zip(regions, masked, strict=True)]
        matched = [places[is_masked] for places, is_masked in zip(matched, masked, strict=True)]
        labels = torch.cat([target["labels"][places] for target, places in zip(targets, matched, strict=True)])
        logits = self(pyramid, regions, labels)
        wanted = torch.cat(
            [
                masks_in_regions(target["masks"], box, places, logits.shape[-1])
                for target, box, places in zip(targets, regions, matched, strict=True)
            ]
        )
        total = F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")
        return {"loss_mask": total / max(wanted.numel(), 1)}

    def found(self, pyramid: dict[str, Tensor], detections: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """Each image's detections with `masks`."""
        return [{**found, "masks": self._masks(pyramid, i, found)} for i, found in enumerate(detections)]

    def _masks(self, pyramid: dict[str, Tensor], image: int, found: dict[str, Tensor]) -> Tensor:
        own = {name: level[image : image + 1] for name, level in pyramid.items()}
        parts = zip(found["boxes"].split(_REGIONS_AT_ONCE), found["labels"].split(_REGIONS_AT_ONCE), strict=True)
        return torch.cat([self(own, [boxes], labels).sigmoid() for boxes, labels in parts])


def masks_in_regions(masks: Sequence[PlacedMask | None], boxes: Tensor, matched: Tensor, cells: int) -> Tensor:
    """What share of each cell of a region its object covers, float32 [k, cells, cells].

    boxes: float [k, 4], xyxy in pixels of the canvas; matched: int64 [k], places among the masks. RoIAlign of the mask,
    aligned as in Detectron2 (torchvision's own targets lie half a pixel off), without a whole canvas for each object:
    its pixels in a frame of zeros are enough.
    """
    covered = boxes.new_zeros((len(boxes), cells, cells), dtype=torch.float32)
    for place in matched.unique().tolist():
        mask = masks[place]
        assert mask is not None
        pixels, left, top = mask
        rows = torch.where(matched == place)[0]
        origin = torch.tensor([left - 1, top - 1] * 2, dtype=torch.float32, device=boxes.device)
        framed = F.pad(pixels.to(boxes.device, torch.float32), (1, 1, 1, 1))[None, None]
        covered[rows] = roi_align(framed, [boxes[rows].float() - origin], (cells, cells), aligned=True)[:, 0]
    return covered
