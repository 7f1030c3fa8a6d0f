"""An anchor-free one-stage detector of the YOLO family (Redmon et al. 2016), written from the papers.

Neck: PAN (Liu et al. 2018) with CSP blocks (Wang et al. 2020). Head: decoupled, one prediction a cell (Ge et al. 2021,
"YOLOX"). Labels: task-aligned assignment (Feng et al. 2021, "TOOD"). Boxes: distances to the sides as distributions
(Li et al. 2020, "Generalized focal loss") and the GIoU loss (Rezatofighi et al. 2019).
"""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torchvision.ops import generalized_box_iou_loss

from stages.losses.assignment import Aligned, task_aligned
from stages.losses.boxes import distribution_focal_loss, quality_focal_loss
from stages.models import pyramid
from stages.models.backbone import Backbone
from stages.models.one_stage import OneStageDetector, Targets
from stages.models.path_aggregation import PathAggregation, convolution
from stages.params.detectors import YOLOParams

if TYPE_CHECKING:
    from stages.params.detection import Params

_PRIOR = 0.01  # class score at the start (Lin et al. 2017, "Focal loss", section 4.1)
_FIRST_SLOPE = 0.4  # of the bins' logits at the start: boxes of about 4 strides a side
_BOX_WEIGHT, _DISTANCE_WEIGHT = 2.0, 0.25  # beside the class loss, as in GFL (Li et al. 2020, section 4)


def build(backbone: Backbone, num_classes: int, params: "Params") -> "YOLO":
    """The detector that a task's parameters ask for."""
    assert params.yolo is not None
    return YOLO(backbone, num_classes, params.yolo)


class YOLO(OneStageDetector):
    """Every feature map of stride `finest_stride_px` and more is a level; each cell predicts one box."""

    def __init__(self, backbone: Backbone, num_classes: int, params: YOLOParams) -> None:
        levels = pyramid.choose(backbone, params)
        super().__init__(backbone, levels, params)
        self.most = params.positives_per_object
        self.neck = PathAggregation(levels.channels, params.neck_channels, params.neck_blocks)
        sizes = (params.neck_channels, params.head_convs, num_classes, params.distance_bins)
        self.heads = nn.ModuleList(_Head(*sizes) for _ in levels.strides)

    def outputs(self, maps: list[Tensor]) -> dict[str, Tensor]:
        """As of any one-stage detector; `bins` are logits of distances in strides: left, top, right, bottom."""
        levels = self.neck(maps)
        centres, strides = pyramid.cell_centres(levels, self.levels.strides)
        classes, bins = zip(*(head(x) for head, x in zip(self.heads, levels, strict=True)), strict=True)
        logits = torch.cat([x.flatten(2).transpose(1, 2) for x in classes], dim=1).float()
        sides = torch.cat([x.flatten(2).transpose(1, 2) for x in bins], dim=1).float().unflatten(2, (4, -1))
        return {"class_logits": logits, "bins": sides, "centres": centres, "strides": strides}

    def losses(self, outputs: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """Class loss on all cells, box losses on those of objects weighted by quality; per unit of quality."""
        boxes, _ = self.boxes_and_scores(outputs)
        aligned = [self._assign(outputs, boxes, i, target) for i, target in enumerate(targets)]
        match, quality = (torch.stack(part) for part in zip(*aligned, strict=True))
        image, place = (match >= 0).nonzero(as_tuple=True)
        own = [targets[i]["boxes"][match[i][match[i] >= 0]] for i in range(len(targets))]
        weight, total = quality[image, place], quality.sum().clamp(min=1)
        wanted = sides_from(torch.cat(own), outputs["centres"][place], outputs["strides"][place])
        giou = generalized_box_iou_loss(boxes[image, place], torch.cat(own))
        distance = distribution_focal_loss(outputs["bins"][image, place], wanted).mean(dim=1)
        return {
            "loss_classifier": quality_focal_loss(
                outputs["class_logits"], _of_classes(outputs["class_logits"], match, quality, targets)
            ).sum()
            / total,
            "loss_box_reg": _BOX_WEIGHT * (giou * weight).sum() / total,
            "loss_distance": _DISTANCE_WEIGHT * (distance * weight).sum() / total,
        }

    def boxes_and_scores(self, outputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """As of any one-stage detector; a side is where its distribution expects it."""
        bins = outputs["bins"]
        expected = (bins.softmax(-1) * torch.arange(bins.shape[-1], device=bins.device)).sum(-1)
        boxes = boxes_from(expected, outputs["centres"], outputs["strides"])
        return boxes, outputs["class_logits"].sigmoid()

    def _assign(self, outputs: dict[str, Tensor], boxes: Tensor, image: int, target: dict[str, Tensor]) -> Aligned:
        return task_aligned(
            outputs["class_logits"][image].sigmoid(),
            boxes[image],
            outputs["centres"],
            outputs["strides"],
            target["boxes"],
            target["labels"] - 1,
            self.most,
        )


def boxes_from(sides: Tensor, centres: Tensor, strides: Tensor) -> Tensor:
    """Boxes [..., N, 4], xyxy in pixels, of distances [..., N, 4] in strides: left, top, right, bottom."""
    distances = sides * strides[:, None]
    return torch.cat([centres - distances[..., :2], centres + distances[..., 2:]], dim=-1)


def sides_from(boxes: Tensor, centres: Tensor, strides: Tensor) -> Tensor:
    """The inverse of boxes_from."""
    return torch.cat([centres - boxes[..., :2], boxes[..., 2:] - centres], dim=-1) / strides[:, None]


def _of_classes(logits: Tensor, match: Tensor, quality: Tensor, targets: Targets) -> Tensor:
    """The score [B, N, C] that each place should give each class."""
    wanted = torch.zeros_like(logits)
    for i, target in enumerate(targets):
        places = (match[i] >= 0).nonzero().squeeze(1)
        wanted[i, places, target["labels"][match[i, places]] - 1] = quality[i, places]
    return wanted


class _Head(nn.Module):
    """Two branches of 3x3 convolutions: classes, and distances to the four sides."""

    def __init__(self, channels: int, num_convs: int, num_classes: int, num_bins: int) -> None:
        super().__init__()
        self.stem = convolution(channels, channels, 1)
        self.class_branch, self.box_branch = (
            nn.Sequential(*(convolution(channels, channels, 3) for _ in range(num_convs))) for _ in range(2)
        )
        self.classes, self.bins = nn.Conv2d(channels, num_classes, 1), nn.Conv2d(channels, 4 * num_bins, 1)
        nn.init.constant_(self.classes.bias, -math.log((1 - _PRIOR) / _PRIOR))  # type: ignore[arg-type]
        self.bins.bias.data = -_FIRST_SLOPE * torch.arange(num_bins).repeat(4)  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        return self.classes(self.class_branch(x)), self.bins(self.box_branch(x))
