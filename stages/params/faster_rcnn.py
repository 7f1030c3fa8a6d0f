"""Sizes of the two-stage detector, for every kind that builds on it."""

from typing import Literal

from pydantic import Field

from stages.params.section import Fraction, Section


class FasterRCNNParams(Section):
    """Sizes of Faster R-CNN (Ren et al. 2015) with FPN (Lin et al. 2017); torchvision's names for its parts."""

    fpn_channels: int = Field(256, ge=16, le=1024)
    anchor_sizes_px: tuple[float, ...] = Field(
        (32, 64, 128, 256, 512), description="one a level, finest first, at least 2"
    )
    finest_stride_px: Literal[4, 8, 16] = Field(4, description="of the pyramid's first level; 8 saves time")
    aspect_ratios: tuple[float, ...] = Field((0.5, 1.0, 2.0), description="height over width")
    rpn_proposals_train: int = Field(1000, ge=10, description="proposals kept after suppression")
    rpn_proposals_test: int = Field(500, ge=10)
    rpn_nms_iou: Fraction = 0.7
    rois_per_image: int = Field(128, ge=8, le=2048, description="sampled for the box head in training")
    roi_positive_share: Fraction = 0.25
    head_channels: int = Field(256, ge=16, le=4096, description="width of the box head's two layers")
    score_threshold: Fraction = Field(0.05, description="boxes under it are dropped")
    nms_iou: Fraction = 0.5
    max_detections: int = Field(100, ge=1, le=1000, description="an image")
