"""Keypoint R-CNN (He et al. 2017, section 5): Faster R-CNN with a head that finds joints, from torchvision's parts."""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.roi_heads import heatmaps_to_keypoints, keypointrcnn_loss

from stages.models.backbone import Backbone
from stages.models.faster_rcnn import FasterRCNN
from stages.models.roi_align import PyramidRoIAlign
from stages.params.detectors import FasterRCNNParams
from stages.params.keypoints import KeypointHeadParams

_REGIONS_AT_ONCE = 128  # in the head when it answers: the maps of all regions of a batch may not fit into memory


class KeypointRCNN(FasterRCNN):
    """As FasterRCNN; targets also have `keypoints` float32 [M, K, 3] (x, y, visibility), and detections, too.

    Detected keypoints: float32 [N, K, 3], x and y in pixels of the canvas and the probability of the likeliest cell.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        num_joints: int,
        params: FasterRCNNParams,
        head: KeypointHeadParams,
        label_smoothing: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(backbone, num_classes, params, label_smoothing, dropout)
        self.roi_heads.add_head(_KeypointHead(self.strides, params.fpn_channels, num_joints, head))


class _KeypointHead(nn.Module):
    """Convolutions over a region's features and one heatmap a joint, whatever the class of the object."""

    def __init__(self, strides: tuple[int, ...], in_channels: int, num_joints: int, params: KeypointHeadParams) -> None:
        super().__init__()
        self.pool = PyramidRoIAlign(strides, params.roi_cells)
        self.layers = KeypointRCNNHeads(in_channels, (params.channels,) * params.layers)
        self.predictor = KeypointRCNNPredictor(params.channels, num_joints)

    def forward(self, pyramid: dict[str, Tensor], regions: list[Tensor]) -> Tensor:
        """Logits float32 [R, K, 4 cells, 4 cells] of the regions of all images."""
        logits: Tensor = self.predictor(self.layers(self.pool(pyramid, regions, [])))
        return logits.float().contiguous()  # pooled regions are not, and torchvision views its loss

    def losses(
        self, pyramid: dict[str, Tensor], regions: list[Tensor], matched: list[Tensor], targets: list[dict[str, Any]]
    ) -> dict[str, Tensor]:
        """Cross-entropy over the cells of a heatmap, mean over the labelled joints that lie in their region."""
        logits = self(pyramid, regions)
        return {"loss_keypoint": keypointrcnn_loss(logits, regions, [t["keypoints"] for t in targets], matched)}

    def found(self, pyramid: dict[str, Tensor], detections: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """Each image's detections with `keypoints`."""
        return [{**found, "keypoints": self._keypoints(pyramid, i, found)} for i, found in enumerate(detections)]

    def _keypoints(self, pyramid: dict[str, Tensor], image: int, found: dict[str, Tensor]) -> Tensor:
        own = {name: level[image : image + 1] for name, level in pyramid.items()}
        parts = []
        for boxes in found["boxes"].split(_REGIONS_AT_ONCE):
            logits = self(own, [boxes])
            points, _ = heatmaps_to_keypoints(logits, boxes)
            share = logits.flatten(2).softmax(2).amax(2)
            parts.append(torch.cat([points[..., :2], share[..., None]], dim=2))
        return torch.cat(parts)
