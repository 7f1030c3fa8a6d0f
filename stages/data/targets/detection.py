"""Images with labelled boxes as detection reads them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from stages.data.samples import Encoded, Images
from stages.data.targets.canvas import CanvasSamples
from stages.metrics.detection import Target
from stages.params.augmentation import DetectionAugmentation


class DetectionSamples(CanvasSamples):
    """Items: key str, target Target, placement Placement, boxes_xyxy float [M, 4] on the canvas, labels int64 [M].

    Crowds are targets (they are ignored when measuring) but not among `boxes_xyxy`, which training sees.
    """

    MIN_SIDE_PX = 1.0  # a box that a crop left less of is no longer an object

    def __init__(
        self,
        images: Images,
        classes: Sequence[str],
        canvas_px: tuple[int, int],
        augmentation: DetectionAugmentation,
        augment_seed: int | None = None,
    ) -> None:
        super().__init__(images, canvas_px, augmentation, augment_seed)
        self.number = {name: i for i, name in enumerate(classes)}

    def load(self, index: int, epoch: int, image: Tensor) -> dict[str, Any]:
        """Fill `image`, randomly varied if an augment_seed was given."""
        encoded, placement = self.placed(index, epoch, image)
        target = self._objects(encoded, self.images.value("objects", index) or [])
        boxes = placement.to_canvas(target.boxes_xyxy)
        is_kept = self._is_large(boxes) & ~target.is_crowd
        return {
            "key": encoded.key,
            "target": target,
            "placement": placement,
            "boxes_xyxy": boxes[is_kept],
            "labels": target.labels[is_kept],
        }

    def _is_large(self, boxes_xyxy: np.ndarray) -> np.ndarray:
        return ((boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]) >= self.MIN_SIDE_PX).all(1)

    def _objects(self, image: Encoded, objects: list[dict[str, Any]]) -> Target:
        return Target(
            image.key,
            image.width,
            image.height,
            np.array([o["bbox_xyxy"] for o in objects], dtype=np.float32).reshape(-1, 4),
            np.array([self.number[o["label"]] for o in objects], dtype=np.int64),
            np.array([o["is_crowd"] for o in objects], dtype=bool),
        )
