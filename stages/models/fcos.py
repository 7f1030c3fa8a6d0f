"""FCOS (Tian et al. 2019, "FCOS: fully convolutional one-stage object detection"), from torchvision's parts."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torchvision.models.detection.fcos import FCOSClassificationHead, FCOSHead, FCOSRegressionHead

from stages.losses.assignment import centre_sampled
from stages.models import pyramid
from stages.models.backbone import Backbone
from stages.models.one_stage import OneStageDetector, Targets, from_zero
from stages.params.detectors import FCOSParams

if TYPE_CHECKING:
    from stages.params.detection import Params


def build(backbone: Backbone, num_classes: int, params: "Params") -> "FCOS":
    """The detector that a task's parameters ask for."""
    assert params.fcos is not None
    return FCOS(backbone, num_classes, params.fcos)


class FCOS(OneStageDetector):
    """Each cell of a feature pyramid predicts its distances to the sides of a box, classes and centre-ness.

    Raises ValueError when num_levels does not fit the backbone's feature maps.
    """

    def __init__(self, backbone: Backbone, num_classes: int, params: FCOSParams) -> None:
        levels = pyramid.choose(backbone, params)
        super().__init__(backbone, levels, params)
        self.radius = params.centre_radius
        self.neck = pyramid.FeaturePyramid(levels, params.fpn_channels)
        self.head = _head(params.fpn_channels, num_classes, params.head_convs)

    def outputs(self, maps: list[Tensor]) -> dict[str, Tensor]:
        """As of any one-stage detector; cells are square boxes as wide as their stride."""
        levels = self.neck(maps)
        centres, strides = pyramid.cell_centres(levels, self.levels.strides)
        cells = torch.cat([centres - strides[:, None] / 2, centres + strides[:, None] / 2], dim=1)
        return {name: x.float() for name, x in self.head(levels).items()} | {"cells": cells}

    def losses(self, outputs: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """torchvision's focal, GIoU and centre-ness losses, averaged over the matched cells of the batch."""
        cells, targets = outputs["cells"], from_zero(targets)
        matches = [centre_sampled(cells, target["boxes"], self.radius) for target in targets]
        losses = self.head.compute_loss(targets, outputs, [cells] * len(targets), matches)
        return {
            "loss_classifier": losses["classification"],
            "loss_box_reg": losses["bbox_regression"],
            "loss_centerness": losses["bbox_ctrness"],
        }

    def boxes_and_scores(self, outputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """As of any one-stage detector; a score is the geometric mean of class score and centre-ness."""
        boxes = self.head.box_coder.decode(outputs["bbox_regression"], outputs["cells"])
        return boxes, (outputs["cls_logits"].sigmoid() * outputs["bbox_ctrness"].sigmoid()).sqrt()


def _head(channels: int, num_classes: int, num_convs: int) -> FCOSHead:
    """torchvision's head with a norm that also takes a level of one cell."""
    head = FCOSHead(channels, 1, num_classes, num_convs)
    norm = pyramid.group_norm
    head.classification_head = FCOSClassificationHead(channels, 1, num_classes, num_convs, norm_layer=norm)
    head.regression_head = FCOSRegressionHead(channels, 1, num_convs, norm)
    # Distances pass a ReLU: from torchvision's 0, half of them would start without a gradient.
    nn.init.ones_(head.regression_head.bbox_reg.bias)
    return head
