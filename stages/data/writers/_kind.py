"""Which kind of dataset a format is for."""

from collections.abc import Sequence

from stages.data.dataset import Description

_FITTING = {"classification": "imagefolder or coco", "detection": "coco, voc or yolo", "segmentation": "mask-png"}


def require(description: Description, kinds: Sequence[str], holds: str) -> None:
    """ValueError with the formats that fit, unless the dataset is of one of these kinds; holds: "voc holds boxes"."""
    kind = description.task
    if kind not in kinds:
        raise ValueError(f"{holds}, the dataset is for {kind}: use {_FITTING[kind]}")
