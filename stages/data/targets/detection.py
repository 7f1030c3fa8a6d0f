"""Images with labelled boxes as detection reads them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from stages.data import transforms
from stages.data.samples import Encoded, Images
from stages.metrics.detection import Target
from stages.params.augmentation import DetectionAugmentation


class DetectionSamples:
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
        self.images, self.augmentation, self.augment_seed = images, augmentation, augment_seed
        self.number = {name: i for i, name in enumerate(classes)}
        self.image_shape = (3, *canvas_px)

    def __len__(self) -> int:
        return len(self.images)

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

    def placed(self, index: int, epoch: int, image: Tensor) -> tuple[Encoded, transforms.Placement]:
        """Fill `image`; the original as it is stored, and where it lies on the canvas."""
        encoded = self.images.image(index)
        pixels = encoded.decode()
        size, canvas = (encoded.height, encoded.width), (self.image_shape[1], self.image_shape[2])
        if self.augment_seed is None:
            placement = transforms.fit(size, canvas)
        else:
            random = transforms.generator(self.augment_seed, epoch, encoded.key)
            placement = transforms.augmented_fit(size, canvas, self.augmentation, random)
            pixels = transforms.recolour(pixels, self.augmentation, random)
            pixels = transforms.erased(pixels, self.augmentation.random_erasing, random)
        transforms.place(pixels, placement, image)
        return encoded, placement

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
