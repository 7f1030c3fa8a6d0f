"""Sizes of the detectors, one section an architecture, for every kind that builds on one."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import Field

from stages.params.section import Fraction, Section


class LevelCount(NamedTuple):
    """How many levels an architecture reads, and the key that says so."""

    num: int | None  # None: as many as there are feature maps
    most_added: int  # levels that it can make beyond the maps
    key: str


class DetectorParams(Section):
    """What the sections of all architectures share."""

    finest_stride_px: Literal[4, 8, 16] = Field(8, description="of the finest feature map that is read; 4 costs time")
    score_threshold: Fraction = Field(0.05, description="boxes under it are dropped")
    nms_iou: Fraction = 0.5
    max_detections: int = Field(100, ge=1, le=1000, description="an image")

    @property
    def levels(self) -> LevelCount:
        """Unless an architecture says otherwise, those of the backbone."""
        return LevelCount(None, 0, "finest_stride_px")

    def misfit(self, arch: str, strides: Sequence[int]) -> str | None:
        """What keeps this from a backbone with feature maps of these strides, finest first; None if nothing does."""
        num_maps = sum(stride >= self.finest_stride_px for stride in strides)
        num, most_added, key = self.levels
        num = num_maps if num is None else num
        if num_maps and 0 <= num - num_maps <= most_added:
            return None
        offered = f"{num_maps} to {num_maps + most_added} levels" if num_maps else f"{max(strides)} or less"
        return (
            f"{key}: {num} levels, but {arch} has {num_maps} feature maps of stride {self.finest_stride_px} and more; "
            f"give {offered}"
        )


class FasterRCNNParams(DetectorParams):
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

    @property
    def levels(self) -> LevelCount:
        """One an anchor size."""
        return LevelCount(len(self.anchor_sizes_px), 1, "anchor_sizes_px")


class OneStageParams(DetectorParams):
    """What the sections of the one-stage architectures share."""

    candidates: int = Field(1000, ge=10, le=100_000, description="boxes of an image that go into suppression")


class RetinaNetParams(OneStageParams):
    """Sizes of RetinaNet (Lin et al. 2017, "Focal loss for dense object detection")."""

    fpn_channels: int = Field(256, ge=32, le=1024, multiple_of=32)
    anchor_sizes_px: tuple[float, ...] = Field(
        (32, 64, 128, 256, 512), description="one a level, finest first; up to two more than feature maps"
    )
    scales_per_octave: int = Field(3, ge=1, le=5, description="anchor sizes a level: size * 2^(k / this)")
    aspect_ratios: tuple[float, ...] = Field((0.5, 1.0, 2.0), description="height over width")

    @property
    def levels(self) -> LevelCount:
        """One an anchor size."""
        return LevelCount(len(self.anchor_sizes_px), 2, "anchor_sizes_px")


class FCOSParams(OneStageParams):
    """Sizes of FCOS (Tian et al. 2019, 2020)."""

    fpn_channels: int = Field(256, ge=32, le=1024, multiple_of=32)
    num_levels: int = Field(5, ge=1, le=7, description="of the pyramid; up to two more than feature maps")
    head_convs: int = Field(4, ge=1, le=4, description="3x3 convolutions in each of the two branches")
    centre_radius: float = Field(1.5, gt=0, le=8, description="strides around a box's centre that count as the object")
    nms_iou: Fraction = 0.6

    @property
    def levels(self) -> LevelCount:
        """As many as it is told."""
        return LevelCount(self.num_levels, 2, "num_levels")


class SSDParams(OneStageParams):
    """Sizes of SSD (Liu et al. 2016); the defaults are those of the paper's SSD512 without its last level."""

    anchor_sizes_px: tuple[float, ...] = Field(
        (36, 77, 154, 230, 307, 384, 461), min_length=2, description="one a level, finest first, and one beyond"
    )
    aspect_ratios: tuple[float, ...] = Field((2.0, 3.0), description="of the oblong boxes, each lying and standing")
    added_channels: int = Field(256, ge=16, le=1024, description="of the levels beyond the feature maps")
    negatives_per_positive: float = Field(3.0, ge=1, le=100, description="the hardest ones that count in the loss")
    score_threshold: Fraction = Field(0.01, description="boxes under it are dropped")
    nms_iou: Fraction = 0.45

    @property
    def levels(self) -> LevelCount:
        """One an anchor size but the last, which only limits the one before it."""
        return LevelCount(len(self.anchor_sizes_px) - 1, 6, "anchor_sizes_px")


class YOLOParams(OneStageParams):
    """Sizes of an anchor-free YOLO: PAN-FPN, decoupled head (YOLOX), task-aligned labels (TOOD)."""

    neck_channels: int = Field(128, ge=16, le=1024, multiple_of=2)
    neck_blocks: int = Field(1, ge=1, le=6, description="bottlenecks in each block of the neck")
    head_convs: int = Field(2, ge=1, le=4, description="3x3 convolutions in each of the two branches")
    distance_bins: int = Field(16, ge=4, le=64, description="a box reaches less than this many strides to each side")
    positives_per_object: int = Field(13, ge=1, le=100, description="locations that learn each object, at most")
    score_threshold: Fraction = Field(0.01, description="boxes under it are dropped")
    nms_iou: Fraction = 0.6
