"""SSD (Liu et al. 2016, "SSD: single shot multibox detector") on any backbone, from torchvision's parts."""

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder, SSDMatcher
from torchvision.models.detection.ssd import SSDHead
from torchvision.ops import Conv2dNormActivation, box_iou

from stages.losses.boxes import multibox_losses
from stages.models import pyramid
from stages.models.backbone import Backbone
from stages.models.one_stage import OneStageDetector, Targets
from stages.params.detectors import SSDParams

if TYPE_CHECKING:
    from stages.params.detection import Params

_FIRST_MAP_NORM = 20.0  # Liu et al. 2016, section 3.1


def build(backbone: Backbone, num_classes: int, params: "Params") -> "SSD":
    """The detector that a task's parameters ask for."""
    assert params.ssd is not None
    return SSD(backbone, num_classes, params.ssd, params.label_smoothing)


class SSD(OneStageDetector):
    """Default boxes of several sizes on the backbone's own feature maps and on coarser ones added to them.

    Differs from the paper: batch norm in the added levels, the same aspect ratios on every level, and boxes in pixels,
    so that they stay square on an oblong canvas.
    Raises ValueError when anchor_sizes_px does not fit the backbone's feature maps.
    """

    def __init__(self, backbone: Backbone, num_classes: int, params: SSDParams, label_smoothing: float = 0.0) -> None:
        levels = pyramid.choose(backbone, params)
        super().__init__(backbone, levels, params)
        self.negatives_per_positive, self.label_smoothing = params.negatives_per_positive, label_smoothing
        self.shapes_px = [
            box_shapes(*sizes, params.aspect_ratios)
            for sizes in zip(params.anchor_sizes_px, params.anchor_sizes_px[1:], strict=False)
        ]
        width = params.added_channels
        self.first_norm = nn.Parameter(torch.full((1, levels.channels[0], 1, 1), _FIRST_MAP_NORM))
        inputs = [levels.channels[-1], *[width] * levels.num_added][: levels.num_added]
        self.added = nn.ModuleList(_downsample(channels, width) for channels in inputs)
        channels = [*levels.channels, *[width] * levels.num_added]
        self.head = SSDHead(channels, [len(shapes) for shapes in self.shapes_px], num_classes + 1)
        self._prefer_background(num_classes)
        self.coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
        self.matcher = SSDMatcher(0.5)

    def outputs(self, maps: list[Tensor]) -> dict[str, Tensor]:
        """As of any one-stage detector."""
        levels = [F.normalize(maps[0].float()) * self.first_norm, *maps[1:]]
        for layer in self.added:
            levels.append(layer(levels[-1]))
        return {name: x.float() for name, x in self.head(levels).items()} | {"anchors": self.default_boxes(levels)}

    def losses(self, outputs: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """Cross-entropy over positives and the hardest negatives, and smooth L1 (equation 1 of the paper)."""
        matched = [self._match(target, outputs["anchors"]) for target in targets]
        return multibox_losses(
            outputs["cls_logits"],
            outputs["bbox_regression"],
            torch.stack([labels for labels, _ in matched]),
            torch.stack([deltas for _, deltas in matched]),
            self.negatives_per_positive,
            self.label_smoothing,
        )

    def boxes_and_scores(self, outputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """As of any one-stage detector; the background's score is left out."""
        deltas = outputs["bbox_regression"]
        anchors = outputs["anchors"].repeat(len(deltas), 1)
        boxes = self.coder.decode_single(deltas.flatten(0, 1), anchors).view_as(deltas)
        return boxes, outputs["cls_logits"].softmax(-1)[..., 1:]

    def default_boxes(self, levels: list[Tensor]) -> Tensor:
        """Float32 [N, 4], xyxy in pixels, cell by cell and level by level."""
        centres, strides = pyramid.cell_centres(levels, self.levels.strides)
        boxes = []
        for stride, shapes in zip(self.levels.strides, self.shapes_px, strict=True):
            half = torch.tensor(shapes, device=centres.device) / 2
            at = centres[strides == stride][:, None]
            boxes.append(torch.cat([at - half, at + half], dim=2).flatten(0, 1))
        return torch.cat(boxes)

    def _match(self, target: dict[str, Tensor], anchors: Tensor) -> tuple[Tensor, Tensor]:
        """Label int64 [N] (0: background) and deltas float32 [N, 4] of each default box."""
        boxes, labels = target["boxes"], target["labels"]
        if not len(boxes):
            return torch.zeros(len(anchors), dtype=torch.int64, device=anchors.device), torch.zeros_like(anchors)
        matches = self.matcher(box_iou(boxes, anchors))
        deltas = self.coder.encode_single(boxes[matches.clamp(min=0)], anchors)
        return labels[matches.clamp(min=0)] * (matches >= 0), deltas

    def _prefer_background(self, num_classes: int) -> None:
        """Start from the share of background that the hardest negatives make."""
        prior = math.log(num_classes * self.negatives_per_positive)
        for conv in self.head.classification_head.module_list:
            conv.bias.data.view(-1, num_classes + 1)[:, 0] = prior


def box_shapes(size: float, next_size: float, ratios: tuple[float, ...]) -> list[tuple[float, float]]:
    """Width and height of the default boxes of a level, in the unit of the sizes (Liu et al. 2016, section 2.2)."""
    between = math.sqrt(size * next_size)
    oblong = [(size * math.sqrt(r), size / math.sqrt(r)) for r in ratios]
    return [(size, size), (between, between), *(shape for w, h in oblong for shape in ((w, h), (h, w)))]


def _downsample(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        Conv2dNormActivation(channels, width // 2, kernel_size=1),
        Conv2dNormActivation(width // 2, width, kernel_size=3, stride=2),
    )
