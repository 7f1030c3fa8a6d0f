"""`kind: detection`: boxes with labels, by Faster R-CNN with a feature pyramid."""

from typing import Any, Literal

from pydantic import Field

from stages.params.augmentation import DetectionAugmentation
from stages.params.faster_rcnn import FasterRCNNParams
from stages.params.task import TaskParams

# What `ingest --task detection` writes, beside what all kinds share.
STARTER: dict[str, Any] = {
    "image_size_px": [256, 320],
    "faster_rcnn": {"fpn_channels": 128, "rpn_proposals_train": 300},
}


class Params(TaskParams):
    """Parameters of a detector; images are scaled to fit image_size_px and padded at the right and below."""

    kind: Literal["detection"] = "detection"
    arch: Literal["faster_rcnn"] = "faster_rcnn"
    image_size_px: tuple[int, int] = Field((480, 640), description="height, width of the canvas; multiples of 32")
    augmentation: DetectionAugmentation = Field(default_factory=DetectionAugmentation)
    faster_rcnn: FasterRCNNParams = Field(default_factory=FasterRCNNParams)
