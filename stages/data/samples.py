"""A split as the two kinds of supervised training see it: an image tensor and its target."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from stages.data import transforms
from stages.data.dataset import Dataset
from stages.data.images import inspect
from stages.metrics.detection import Target
from stages.params.augmentation import ClassificationAugmentation, DetectionAugmentation

IMAGE_COLUMNS = ("key", "shard", "offset", "size", "mode", "format", "orientation", "width", "height")


@dataclass(frozen=True)
class Encoded:
    """An image as it is stored, and what is known of it without decoding."""

    key: str
    data: bytes
    mode: str
    format: str
    orientation: int
    width: int  # of the upright image, pixels
    height: int

    def decode(self) -> Tensor:
        """uint8 [3, height, width], upright."""
        return transforms.decode(self.data, self.mode, self.format, self.orientation)


class Images(Protocol):
    """Encoded images with, for a labelled set, a column of labels or objects."""

    def __len__(self) -> int: ...

    def image(self, index: int) -> Encoded: ...

    def value(self, column: str, index: int) -> Any: ...


class StoredImages:
    """The images of one split of a dataset, in the order of their keys."""

    def __init__(self, dataset: Dataset, split: str, *columns: str) -> None:
        self.dataset = dataset
        self.table = dataset.table(split, [*IMAGE_COLUMNS, *columns]).combine_chunks()

    def __len__(self) -> int:
        return self.table.num_rows

    def image(self, index: int) -> Encoded:
        """One image, by one read."""
        key, shard, offset, size, *facts = (self.value(name, index) for name in IMAGE_COLUMNS)
        return Encoded(key, self.dataset.read(shard, offset, size), *facts)

    def value(self, column: str, index: int) -> Any:
        """One field of one sample."""
        return self.table.column(column)[index].as_py()


class LooseImages:
    """Encoded images from outside a dataset; ValueError names the first that can't be read."""

    def __init__(self, files: Sequence[bytes]) -> None:
        self.images = [self._encoded(i, data) for i, data in enumerate(files)]

    @staticmethod
    def _encoded(index: int, data: bytes) -> Encoded:
        try:
            facts = inspect(data)
        except ValueError as error:
            raise ValueError(f"image {index}: {error}") from None
        key = f"{index:016x}"
        return Encoded(key, data, facts.mode, facts.format, facts.orientation, facts.width, facts.height)

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> Encoded:
        """One image."""
        return self.images[index]

    def value(self, column: str, index: int) -> Any:
        """Nothing is known of such an image."""
        return None


class ClassificationSamples:
    """Items: key str, target int (class number; -1 when unknown)."""

    def __init__(
        self,
        images: Images,
        classes: Sequence[str],
        image_px: int,
        augmentation: ClassificationAugmentation,
        augment_seed: int | None = None,
    ) -> None:
        self.images, self.augmentation, self.augment_seed = images, augmentation, augment_seed
        self.number = {name: i for i, name in enumerate(classes)}
        self.image_shape = (3, image_px, image_px)

    def __len__(self) -> int:
        return len(self.images)

    def load(self, index: int, epoch: int, image: Tensor) -> dict[str, Any]:
        """Fill `image`, randomly varied if an augment_seed was given."""
        encoded = self.images.image(index)
        pixels, size_px = encoded.decode(), self.image_shape[1]
        if self.augment_seed is None:
            image.copy_(transforms.central_crop(pixels, size_px, self.augmentation.test_crop))
        else:
            random = transforms.generator(self.augment_seed, epoch, encoded.key)
            image.copy_(transforms.random_resized_crop(pixels, size_px, self.augmentation, random))
        labels = self.images.value("labels", index)
        return {"key": encoded.key, "target": self.number[labels[0]] if labels else -1}


class DetectionSamples:
    """Items: key str, target Target, placement Placement, boxes_xyxy float64 [M, 4] on the canvas, labels int64 [M].

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
        encoded = self.images.image(index)
        pixels = encoded.decode()
        size, canvas = (encoded.height, encoded.width), (self.image_shape[1], self.image_shape[2])
        if self.augment_seed is None:
            placement = transforms.fit(size, canvas)
        else:
            random = transforms.generator(self.augment_seed, epoch, encoded.key)
            placement = transforms.augmented_fit(size, canvas, self.augmentation, random)
            pixels = transforms.recolour(pixels, self.augmentation, random)
        transforms.place(pixels, placement, image)
        target = self._objects(encoded, self.images.value("objects", index) or [])
        boxes = placement.to_canvas(target.boxes_xyxy)
        is_kept = ((boxes[:, 2:] - boxes[:, :2]) >= self.MIN_SIDE_PX).all(1) & ~target.is_crowd
        return {
            "key": encoded.key,
            "target": target,
            "placement": placement,
            "boxes_xyxy": boxes[is_kept],
            "labels": target.labels[is_kept],
        }

    def _objects(self, image: Encoded, objects: list[dict[str, Any]]) -> Target:
        return Target(
            image.key,
            image.width,
            image.height,
            np.array([o["bbox_xyxy"] for o in objects], dtype=np.float64).reshape(-1, 4),
            np.array([self.number[o["label"]] for o in objects], dtype=np.int64),
            np.array([o["is_crowd"] for o in objects], dtype=bool),
        )
