"""Images with masks as segmentation reads them."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.data import transforms
from stages.data.records import VOID
from stages.data.samples import Images
from stages.data.targets.canvas import CanvasSamples
from stages.metrics.segmentation import Target
from stages.params.augmentation import SegmentationAugmentation

MAX_CLASSES = VOID


class SegmentationSamples(CanvasSamples):
    """Items: key str, target Target, placement Placement, mask uint8 [Hc, Wc] class numbers on the canvas.

    Pixels without a label, outside of the image, or of an image without a mask are VOID.
    """

    def __init__(
        self,
        images: Images,
        classes: Sequence[str],
        canvas_px: tuple[int, int],
        augmentation: SegmentationAugmentation,
        augment_seed: int | None = None,
    ) -> None:
        if len(classes) > MAX_CLASSES:
            raise ValueError(f"segmentation of {len(classes)} classes: at most {MAX_CLASSES} have a number in a mask")
        super().__init__(images, canvas_px, augmentation, augment_seed)
        self.classes = tuple(classes)
        self.class_weights: Tensor | None = None  # float [C], which the loss is to use

    def load(self, index: int, epoch: int, image: Tensor) -> dict[str, Any]:
        """Fill `image`, randomly varied if an augment_seed was given."""
        encoded, placement = self.placed(index, epoch, image)
        found = self.images.mask(index, self.classes)
        numbers = found if found is not None else np.full((encoded.height, encoded.width), VOID, np.uint8)
        mask = torch.empty(self.image_shape[1:], dtype=torch.uint8)
        transforms.place_mask(torch.from_numpy(numbers), placement, mask)
        return {
            "key": encoded.key,
            "target": Target(encoded.key, numbers),
            "placement": placement,
            "mask": mask,
            "class_weights": self.class_weights,
        }

    @cached_property
    def pixels(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pixels of each class [C], and the labelled pixels [C] of the images that show it; from the index alone."""
        number = {name: i for i, name in enumerate(self.classes)}
        counts, areas = np.zeros((2, len(self.classes)), np.int64)
        for i in range(len(self)):
            labels, pixels = (self.images.value(column, i) or [] for column in ("mask_labels", "mask_pixels"))
            known = {number[label]: n for label, n in zip(labels, pixels, strict=True) if label in number}
            for k, n in known.items():
                counts[k] += n
                areas[k] += sum(known.values())
        return counts, areas
