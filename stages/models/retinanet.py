"""RetinaNet (Lin et al. 2017, "Focal loss for dense object detection"), from torchvision's parts."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import box_iou

from stages.models import pyramid
from stages.models.backbone import Backbone
from stages.models.one_stage import OneStageDetector, Targets, from_zero
from stages.params.detectors import RetinaNetParams

if TYPE_CHECKING:
    from stages.params.detection import Params


def build(backbone: Backbone, num_classes: int, params: "Params") -> "RetinaNet":
    """The detector that a task's parameters ask for."""
    assert params.retinanet is not None
    return RetinaNet(backbone, num_classes, params.retinanet)


class RetinaNet(OneStageDetector):
    """Anchors on a feature pyramid, each classified by a focal loss; as torchvision's second version.

    That one differs from the paper by group normalisation in the head and the GIoU loss (Rezatofighi et al. 2019).
    Raises ValueError when anchor_sizes_px does not fit the backbone's feature maps.
    """

    def __init__(self, backbone: Backbone, num_classes: int, params: RetinaNetParams) -> None:
        sizes = params.anchor_sizes_px
        levels = pyramid.choose(backbone, params)
        super().__init__(backbone, levels, params)
        self.neck = pyramid.FeaturePyramid(levels, params.fpn_channels)
        octave = [2 ** (k / params.scales_per_octave) for k in range(params.scales_per_octave)]
        level_sizes = tuple(tuple(size * scale for scale in octave) for size in sizes)
        self.anchors = pyramid.PyramidAnchors(level_sizes, params.aspect_ratios, levels.strides)
        num_anchors = len(octave) * len(params.aspect_ratios)
        self.head = RetinaNetHead(params.fpn_channels, num_anchors, num_classes, pyramid.group_norm)
        self.head.regression_head._loss_type = "giou"
        self.coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
        self.matcher = Matcher(0.5, 0.4, allow_low_quality_matches=True)

    def outputs(self, maps: list[Tensor]) -> dict[str, Tensor]:
        """As of any one-stage detector."""
        levels = self.neck(maps)
        return {name: x.float() for name, x in self.head(levels).items()} | {"anchors": self.anchors.on(levels)}

    def losses(self, outputs: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """torchvision's focal and box loss, each a mean over images of sums over an image's matched anchors."""
        anchors, targets = outputs["anchors"], from_zero(targets)
        matches = [self._match(target["boxes"], anchors) for target in targets]
        losses = self.head.compute_loss(targets, outputs, [anchors] * len(targets), matches)
        return {"loss_classifier": losses["classification"], "loss_box_reg": losses["bbox_regression"]}

    def boxes_and_scores(self, outputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """As of any one-stage detector."""
        deltas = outputs["bbox_regression"]
        anchors = outputs["anchors"].repeat(len(deltas), 1)
        boxes = self.coder.decode_single(deltas.flatten(0, 1), anchors).view_as(deltas)
        return boxes, outputs["cls_logits"].sigmoid()

    def _match(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """The box of each anchor int64 [N]; -1: background, -2: neither."""
        if not len(boxes):
            return torch.full((len(anchors),), -1, dtype=torch.int64, device=anchors.device)
        ious = box_iou(boxes, anchors)
        # The matcher also takes the best anchors of a box that overlaps none: all those of no overlap.
        return torch.where(ious.amax(dim=0) > 0, self.matcher(ious), -1)
