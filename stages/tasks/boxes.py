"""What the kinds that find boxes share: their batches as a detector takes them, and what saliency explains of it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from stages.data.loader import Batch
from stages.tasks.task import Explained


def sizes(batch: Batch) -> list[tuple[int, int]]:
    """Height and width of what shows the image, of each canvas."""
    return [placement.content_px for placement in batch["placement"]]


def targets(batch: Batch) -> list[dict[str, Any]]:
    """Boxes and labels of each image; class 0 is the background."""
    device = batch["images"].device
    return [
        {
            "boxes": torch.tensor(boxes, dtype=torch.float32, device=device),
            "labels": torch.tensor(labels + 1, dtype=torch.int64, device=device),
        }
        for boxes, labels in zip(batch["boxes_xyxy"], batch["labels"], strict=True)
    ]


def explained(found: dict[str, Tensor], classes: Sequence[str]) -> Explained:
    """The score of the surest box of an image; none where nothing is found."""
    if not len(found["scores"]):
        return Explained(None, "nothing found")
    score, label = found["scores"][0], classes[int(found["labels"][0]) - 1]
    return Explained(score, f"{label} {float(score.detach()):.2f}", tuple(found["boxes"][0].tolist()))
