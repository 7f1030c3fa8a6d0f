"""`kind: instance_segmentation`: boxes with labels and a mask each, by Mask R-CNN."""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from stages.params.augmentation import DetectionAugmentation
from stages.params.backbone import BackboneParams, strides_of
from stages.params.detectors import FasterRCNNParams
from stages.params.section import Fraction, Section
from stages.params.task import TaskParams

# What `ingest --task instance_segmentation` writes, beside what all kinds share.
STARTER: dict[str, Any] = {
    "image_size_px": [256, 320],
    "faster_rcnn": {"fpn_channels": 128, "rpn_proposals_train": 300},
    "mask_head": {"channels": 64, "layers": 2},
}
ANSWERS = "boxes"  # what an answer holds, for stages/tracking/findings.py


class MaskHeadParams(Section):
    """Sizes of the mask head (He et al. 2017, figure 4, right); on a CPU it costs more than a small backbone."""

    channels: int = Field(256, ge=8, le=1024, description="width of its convolutions")
    layers: int = Field(4, ge=1, le=8, description="convolutions before the one that doubles the side")
    roi_cells: int = Field(14, ge=7, le=56, description="side of a region's features; its mask has twice as many")
    threshold: Fraction = Field(0.5, description="probability from which a pixel belongs to the mask")


class Params(TaskParams):
    """Parameters of Mask R-CNN; images are scaled to fit image_size_px and padded at the right and below."""

    kind: Literal["instance_segmentation"] = "instance_segmentation"
    arch: Literal["mask_rcnn"] = "mask_rcnn"
    image_size_px: tuple[int, int] = Field((480, 640), description="height, width of the canvas; multiples of 32")
    augmentation: DetectionAugmentation = Field(default_factory=DetectionAugmentation)
    faster_rcnn: FasterRCNNParams = Field(default_factory=FasterRCNNParams)
    mask_head: MaskHeadParams = Field(default_factory=MaskHeadParams)

    @property
    def input_px(self) -> tuple[int, ...]:
        """Of the canvas."""
        return self.image_size_px

    def misfits(self, backbone: BackboneParams) -> Iterator[str]:
        """Also levels that the backbone's feature maps do not give."""
        yield from super().misfits(backbone)
        problem = self.faster_rcnn.misfit(backbone.arch, strides_of(backbone.arch, backbone.stem))
        if problem:
            yield f"faster_rcnn.{problem}"
