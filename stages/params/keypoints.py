"""`kind: keypoints`: joints of persons, or of whatever has a skeleton, by Keypoint R-CNN or by heatmaps."""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, model_validator

from stages.params.augmentation import KeypointAugmentation
from stages.params.backbone import BackboneParams, strides_of
from stages.params.detectors import FasterRCNNParams
from stages.params.section import Fraction, Section
from stages.params.task import TaskParams

# What `ingest --task keypoints` writes, beside what all kinds share.
STARTER: dict[str, Any] = {
    "image_size_px": [256, 320],
    "faster_rcnn": {"fpn_channels": 128, "rpn_proposals_train": 300},
    "keypoint_head": {"channels": 128, "layers": 4},
}
ANSWERS = "boxes"  # what an answer holds, for stages/tracking/findings.py


class KeypointHeadParams(Section):
    """Sizes of Keypoint R-CNN's head (He et al. 2017, section 5); on a CPU it costs more than a small backbone."""

    channels: int = Field(512, ge=8, le=1024, description="width of its convolutions")
    layers: int = Field(8, ge=1, le=16, description="convolutions before the one that doubles the side")
    roi_cells: int = Field(14, ge=7, le=56, description="side of a region's features; its heatmap has four times more")


class HeatmapParams(Section):
    """SimpleBaseline (Xiao et al. 2018): one heatmap a joint, of one person in each image."""

    label: str | None = Field(None, description="class whose joints are found; null: the first of the dataset")
    crop: Literal["image", "box"] = Field(
        "image",
        description="what the person fills. image: all of it. box: the true box, where there is one, as papers "
        "measure; a request then says the box beside the image, or the model sees all of it",
    )
    box_margin: float = Field(1.25, ge=1, le=3, description="side of the crop over that of the box; crop: box only")
    features: Literal["last", "pyramid"] = Field(
        "last", description="pyramid: finer feature maps are added on the way up (as in Lin et al. 2017)"
    )
    channels: int = Field(256, ge=8, le=1024, description="width of the deconvolutions")
    stride_px: Literal[2, 4, 8, 16] = Field(4, description="pixels a cell of the heatmaps")
    sigma_cells: float = Field(2.0, ge=0.5, le=10, description="deviation of a joint's Gaussian, cells of the heatmap")
    decoding: Literal["dark", "quarter"] = Field(
        "dark", description="place within a cell: by Zhang et al. 2020, or a quarter cell towards the second highest"
    )
    flip_test: bool = Field(False, description="mean of an image's heatmaps and its mirror's: twice the time")


class Params(TaskParams):
    """Parameters of both; images are scaled to fit image_size_px, by Keypoint R-CNN padded at the right and below."""

    kind: Literal["keypoints"] = "keypoints"
    arch: Literal["keypoint_rcnn", "heatmaps"] = "keypoint_rcnn"
    image_size_px: tuple[int, int] = Field(
        (480, 640), description="height, width of the canvas; multiples of 32; 256, 192 is usual for heatmaps"
    )
    augmentation: KeypointAugmentation = Field(default_factory=KeypointAugmentation)
    pck_reference: Literal["torso", "box"] = Field(
        "torso", description="size that PCK goes by: shoulder to the other side's hip (box where the skeleton has none)"
    )
    pck_threshold: Fraction = Field(0.2, description="share of that size which a joint may be off")
    faster_rcnn: FasterRCNNParams = Field(default_factory=FasterRCNNParams)
    keypoint_head: KeypointHeadParams = Field(default_factory=KeypointHeadParams)
    heatmaps: HeatmapParams = Field(default_factory=HeatmapParams)

    @model_validator(mode="after")
    def _fits_the_architecture(self) -> "Params":
        if self.arch == "keypoint_rcnn" and self.augmentation.rotation_deg:
            raise ValueError("augmentation.rotation_deg turns single persons: use it with arch heatmaps, or drop it")
        if self.arch == "heatmaps" and self.label_smoothing:
            raise ValueError(f"label_smoothing: heatmaps tell no classes apart, is {self.label_smoothing}; drop it")
        if any(side % 32 or side < 32 for side in self.image_size_px):
            raise ValueError(f"image_size_px {list(self.image_size_px)}: both sides must be multiples of 32")
        return self

    @property
    def input_px(self) -> tuple[int, ...]:
        """Of the canvas."""
        return self.image_size_px

    @property
    def takes_boxes(self) -> bool:
        """Of one that is trained to see a person's box."""
        return self.arch == "heatmaps" and self.heatmaps.crop == "box"

    def misfits(self, backbone: BackboneParams) -> Iterator[str]:
        """Also levels that the backbone's feature maps do not give, and heatmaps coarser than its last map."""
        yield from super().misfits(backbone)
        strides = strides_of(backbone.arch, backbone.stem)
        problem = self.faster_rcnn.misfit(backbone.arch, strides) if self.arch == "keypoint_rcnn" else None
        if problem:
            yield f"faster_rcnn.{problem}"
        if self.arch == "heatmaps" and self.heatmaps.stride_px > strides[-1]:
            last = f"the last map of {backbone.arch} has stride {strides[-1]}"
            yield f"heatmaps.stride_px {self.heatmaps.stride_px}: {last}; give {strides[-1]} or less"
