"""Labelled images as classification reads them."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from stages.data import transforms
from stages.data.samples import Images
from stages.params.augmentation import ClassificationAugmentation


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
        return {"key": encoded.key, "target": self.target(encoded.key, index)}

    def target(self, key: str, index: int) -> Any:
        """What a sample is measured by."""
        labels = self.images.value("labels", index)
        return self.number[labels[0]] if labels else -1
