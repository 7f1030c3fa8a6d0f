"""Whole images on a canvas of one size: what the kinds that keep an image's shape share."""

from torch import Tensor

from stages.data import transforms
from stages.data.samples import Encoded, Images
from stages.params.augmentation import DetectionAugmentation


class CanvasSamples:
    """Images scaled to fit a canvas, randomly varied if an augment_seed was given; a kind adds what is in them."""

    def __init__(
        self,
        images: Images,
        canvas_px: tuple[int, int],
        augmentation: DetectionAugmentation,
        augment_seed: int | None = None,
    ) -> None:
        self.images, self.augmentation, self.augment_seed = images, augmentation, augment_seed
        self.image_shape = (3, *canvas_px)

    def __len__(self) -> int:
        return len(self.images)

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
