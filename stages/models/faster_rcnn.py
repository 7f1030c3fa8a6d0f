"""Faster R-CNN (Ren et al. 2015) with a feature pyramid (Lin et al. 2017), from torchvision's parts."""

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from stages.models import pyramid
from stages.models.backbone import Backbone
from stages.models.boxes import check_targets
from stages.models.roi_align import PyramidRoIAlign
from stages.params.detectors import FasterRCNNParams

if TYPE_CHECKING:
    from stages.params.detection import Params

_ROI_CELLS = 7


def build(backbone: Backbone, num_classes: int, params: "Params") -> "FasterRCNN":
    """The detector that a task's parameters ask for."""
    assert params.faster_rcnn is not None
    return FasterRCNN(backbone, num_classes, params.faster_rcnn, params.label_smoothing, params.dropout)


class FasterRCNN(nn.Module):
    """Two-stage detector on a backbone's feature maps of stride `finest_stride_px` and more.

    The pyramid has one level a feature map; one more anchor size than these adds a level by subsampling the last.
    Raises ValueError when there are other numbers of anchor sizes.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        params: FasterRCNNParams,
        label_smoothing: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        backbone.features_only()
        self.backbone = backbone
        levels = pyramid.choose(backbone, params)
        self._first = levels.first
        added = LastLevelMaxPool() if levels.num_added else None
        self.fpn = FeaturePyramidNetwork(list(levels.channels), params.fpn_channels, added)
        self.rpn = _rpn(params, levels.strides)
        self.strides = levels.strides[: len(levels.channels)]  # of the maps that regions are read from
        self.roi_heads = _roi_heads(params, self.strides, num_classes, label_smoothing, dropout)

    def forward(
        self,
        images: Tensor,
        sizes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses while training, detections in eval mode.

        images: float [B, 3, H, W], normalised; sizes: height and width in pixels of each image's content, which
        starts at the upper left; targets: boxes float32 [M, 4] (xyxy, pixels of the canvas) and labels int64 [M]
        (1 to num_classes) for each image, M may be 0.
        Returns four scalar losses by name, or for each image boxes float32 [N, 4], labels int64 [N] and scores
        float32 [N], best first.
        """
        if self.training:
            check_targets(targets)
        maps = self.backbone.features(images)[self._first :]
        levels = self.fpn(OrderedDict((str(i), x) for i, x in enumerate(maps)))
        proposals, proposal_losses = self.rpn(ImageList(images, sizes), levels, targets)
        detections, box_losses = self.roi_heads(levels, proposals, sizes, targets)
        return {**proposal_losses, **box_losses} if self.training else detections


class _ProposalHead(RPNHead):
    """RPN head whose results are float32: in bfloat16 a coordinate of 300 px has steps of 2 px."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        objectness, deltas = super().forward(x)
        return [level.float() for level in objectness], [level.float() for level in deltas]


class _BoxPredictor(FastRCNNPredictor):
    """Class scores and box deltas in float32, with dropout before the class scores."""

    def __init__(self, in_channels: int, num_classes: int, dropout: float) -> None:
        super().__init__(in_channels, num_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls_score(self.dropout(x)).float(), self.bbox_pred(x).float()


class ObjectHead(Protocol):
    """A module that finds more than a box of each object: a mask, joints."""

    def losses(
        self,
        pyramid: dict[str, Tensor],
        regions: list[Tensor],
        matched: list[Tensor],
        targets: list[dict[str, Any]],
    ) -> dict[str, Tensor]:
        """Losses by name, for the sampled regions [k, 4] that show an object, and its place [k] among the targets."""
        ...

    def found(self, pyramid: dict[str, Tensor], detections: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """The detections of each image with what it finds of them, float32 whatever autocast chose."""
        ...


class _BoxHeads(RoIHeads):
    """torchvision's box heads with label smoothing, and with whatever head else looks at the objects."""

    label_smoothing = 0.0

    def add_head(self, head: nn.Module) -> None:
        """Have an ObjectHead train and answer beside the box head."""
        self.object_head = head

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        if self.training:
            proposals, matched, labels, deltas = self.select_training_samples(proposals, targets)
        pooled = self.box_roi_pool(features, proposals, image_shapes)
        class_logits, box_regression = self.box_predictor(self.box_head(pooled))
        other = cast(ObjectHead | None, getattr(self, "object_head", None))
        if self.training:
            losses = box_head_losses(class_logits, box_regression, labels, deltas, self.label_smoothing)
            if other:
                regions, places = ([of[n > 0] for of, n in zip(x, labels, strict=True)] for x in (proposals, matched))
                losses |= other.losses(features, regions, places, cast(list[dict[str, Tensor]], targets))
            return [], losses
        found = self.postprocess_detections(class_logits, box_regression, proposals, image_shapes)
        detections = [{"boxes": b, "labels": n, "scores": s} for b, s, n in zip(*found, strict=True)]
        return (other.found(features, detections) if other else detections), {}


def box_head_losses(
    class_logits: Tensor,
    box_regression: Tensor,
    labels: list[Tensor],
    deltas: list[Tensor],
    label_smoothing: float,
) -> dict[str, Tensor]:
    """Fast R-CNN's two losses (Girshick 2015), averaged over the sampled regions of the batch.

    class_logits [K, C+1]; box_regression [K, 4(C+1)]; for each image labels int64 [k] (0: background) and deltas
    [k, 4]. As torchvision's fastrcnn_loss, plus label smoothing; finite without any region.
    """
    label = torch.cat(labels)
    num_regions = max(len(label), 1)
    inside = torch.where(label > 0)[0]
    own_class = box_regression.unflatten(1, (-1, 4))[inside, label[inside]]
    box_loss = F.smooth_l1_loss(own_class, torch.cat(deltas)[inside], beta=1 / 9, reduction="sum")
    class_loss = F.cross_entropy(class_logits, label, reduction="sum", label_smoothing=label_smoothing)
    return {"loss_classifier": class_loss / num_regions, "loss_box_reg": box_loss / num_regions}


def _rpn(params: FasterRCNNParams, strides: tuple[int, ...]) -> RegionProposalNetwork:
    kept = {"training": params.rpn_proposals_train, "testing": params.rpn_proposals_test}
    return RegionProposalNetwork(
        pyramid.PyramidAnchors(tuple((size,) for size in params.anchor_sizes_px), params.aspect_ratios, strides),
        _ProposalHead(params.fpn_channels, len(params.aspect_ratios)),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_top_n=kept,
        post_nms_top_n=kept,
        nms_thresh=params.rpn_nms_iou,
    )


def _roi_heads(
    params: FasterRCNNParams, strides: tuple[int, ...], num_classes: int, label_smoothing: float, dropout: float
) -> _BoxHeads:
    heads = _BoxHeads(
        PyramidRoIAlign(strides, _ROI_CELLS),
        TwoMLPHead(params.fpn_channels * _ROI_CELLS**2, params.head_channels),
        _BoxPredictor(params.head_channels, num_classes + 1, dropout),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=params.rois_per_image,
        positive_fraction=params.roi_positive_share,
        bbox_reg_weights=None,
        score_thresh=params.score_threshold,
        nms_thresh=params.nms_iou,
        detections_per_img=params.max_detections,
    )
    heads.label_smoothing = label_smoothing
    return heads
