"""Decoded images into training tensors: every random choice is a function of (seed, epoch, sample)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg, decode_png
from torchvision.transforms.v2 import functional as tv

from stages.data.images import decode_rgb
from stages.data.records import VOID
from stages.params.augmentation import ClassificationAugmentation, DetectionAugmentation


def generator(seed: int, epoch: int, key: str) -> np.random.Generator:
    """The random numbers of one sample (key: 16 hex digits) in one epoch, whatever thread or order it is read in."""
    return np.random.default_rng([seed, epoch, int(key, 16)])


def decode(data: bytes, mode: str, image_format: str, orientation: int) -> Tensor:
    """Encoded image to uint8 [3, H, W], upright; plain JPEG takes the fast decoder, all else Pillow."""
    if image_format == "JPEG" and mode in ("RGB", "L") and orientation == 1:
        return decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=ImageReadMode.RGB)
    return torch.from_numpy(decode_rgb(data)).permute(2, 0, 1)


def decode_mask(data: bytes, labels: Sequence[str], classes: Sequence[str]) -> NDArray[np.uint8]:
    """A stored mask as class numbers uint8 [H, W]; `labels` name its values. VOID: not labelled, or of no class."""
    places = decode_png(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=ImageReadMode.UNCHANGED)[0]
    number = {name: i for i, name in enumerate(classes)}
    numbers = np.full(256, VOID, np.uint8)
    numbers[: len(labels)] = [number.get(label, VOID) for label in labels]
    return numbers[places.numpy()]


def random_resized_crop(
    image: Tensor, size_px: int, augmentation: ClassificationAugmentation, random: np.random.Generator
) -> Tensor:
    """uint8 [3, H, W] to uint8 [3, size_px, size_px]: random crop, flip and colour (Szegedy et al. 2015, section 6)."""
    top, left, height, width = _crop(image.shape[1:], augmentation, random)
    image = tv.resized_crop(image, top, left, height, width, [size_px, size_px], antialias=True)
    if random.random() < augmentation.flip_horizontal:
        image = image.flip(-1)
    image = _recolour(image, augmentation.brightness, augmentation.contrast, random)
    return erased(image, augmentation.random_erasing, random)


def _crop(
    size: torch.Size, augmentation: ClassificationAugmentation, random: np.random.Generator
) -> tuple[int, int, int, int]:
    """Top, left, height, width of a random crop; the whole image when ten tries do not fit."""
    H, W = size
    low, high = (math.log(r) for r in augmentation.crop_ratio)
    for _ in range(10):
        area = H * W * random.uniform(*augmentation.crop_scale)
        ratio = math.exp(random.uniform(low, high))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < width <= W and 0 < height <= H:
            return int(random.integers(H - height + 1)), int(random.integers(W - width + 1)), height, width
    return 0, 0, H, W


def central_crop(image: Tensor, size_px: int, share: float) -> Tensor:
    """uint8 [3, H, W] to the central uint8 [3, size_px, size_px], after the shorter side became size_px / share."""
    image = tv.resize(image, [max(size_px, round(size_px / share))], antialias=True)
    return tv.center_crop(image, [size_px, size_px])


def _recolour(image: Tensor, brightness: float, contrast: float, random: np.random.Generator) -> Tensor:
    """Relative brightness and contrast, each uniform in 1 ± its limit."""
    if brightness:
        image = tv.adjust_brightness(image, random.uniform(1 - brightness, 1 + brightness))
    if contrast:
        image = tv.adjust_contrast(image, random.uniform(1 - contrast, 1 + contrast))
    return image


def erased(image: Tensor, probability: float, random: np.random.Generator) -> Tensor:
    """uint8 [3, H, W] with, by chance, noise in a random rectangle (Zhong et al. 2020, algorithm 1: RE-R).

    Its area is 0.02 to 0.4 of the image's, its sides' ratio 0.3 to 1 / 0.3; none when ten tries do not fit.
    """
    if not probability or random.random() >= probability:
        return image
    H, W = image.shape[1:]
    for _ in range(10):
        area, ratio = H * W * random.uniform(0.02, 0.4), random.uniform(0.3, 1 / 0.3)
        height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < height < H and 0 < width < W:
            top, left = int(random.integers(H - height + 1)), int(random.integers(W - width + 1))
            image = image.clone()
            noise = random.integers(0, 256, (len(image), height, width), dtype=np.uint8)
            image[:, top : top + height, left : left + width] = torch.from_numpy(noise)
            return image
    return image


@dataclass(frozen=True)
class Placement:
    """Where an image lies on a canvas: canvas = original * scale + (left, top), mirrored in content if flipped."""

    scale: float
    left: float
    top: float
    content_px: tuple[int, int]  # height, width of the part of the canvas that shows the image
    is_flipped_x: bool = False
    is_flipped_y: bool = False

    def to_canvas(self, boxes_xyxy: np.ndarray) -> np.ndarray:
        """Boxes [N, 4] of the original image, in pixels, to canvas pixels, cut at the content's edge."""
        height, width = self.content_px
        boxes = boxes_xyxy * self.scale + np.array([self.left, self.top] * 2)
        boxes = boxes.clip(0, np.array([width, height] * 2))
        if self.is_flipped_x:
            boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)
        if self.is_flipped_y:
            boxes = np.stack([boxes[:, 0], height - boxes[:, 3], boxes[:, 2], height - boxes[:, 1]], 1)
        return boxes

    def points_to_canvas(self, points: np.ndarray) -> np.ndarray:
        """Points [..., 2] of the original image, in pixels, to canvas pixels; they may lie outside the content."""
        height, width = self.content_px
        points = points * self.scale + np.array([self.left, self.top])
        if self.is_flipped_x:
            points = np.stack([width - points[..., 0], points[..., 1]], -1)
        if self.is_flipped_y:
            points = np.stack([points[..., 0], height - points[..., 1]], -1)
        return points

    def to_original(self, boxes_xyxy: np.ndarray) -> np.ndarray:
        """Boxes [N, 4] on an unflipped canvas to pixels of the original image."""
        return (boxes_xyxy - np.array([self.left, self.top] * 2)) / self.scale

    def window(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns of an original of this size that the canvas shows."""
        starts = (round(-self.top / self.scale), round(-self.left / self.scale))
        rows, columns = (
            slice(start, min(limit, start + max(1, round(length / self.scale))))
            for limit, start, length in zip((height, width), starts, self.content_px, strict=True)
        )
        return rows, columns

    def flipped(self, content: Tensor) -> Tensor:
        """The part of the canvas that shows the image, [..., height, width], mirrored as the placement says."""
        axes = [axis for axis, is_flipped in ((-1, self.is_flipped_x), (-2, self.is_flipped_y)) if is_flipped]
        return content.flip(axes) if axes else content


def fit(size_hw: tuple[int, int], canvas_hw: tuple[int, int]) -> Placement:
    """The largest scale at which an image fits a canvas, placed at its top left."""
    scale = min(canvas_hw[0] / size_hw[0], canvas_hw[1] / size_hw[1])
    content = tuple(min(c, max(1, round(s * scale))) for s, c in zip(size_hw, canvas_hw, strict=True))
    return Placement(scale, 0.0, 0.0, (content[0], content[1]))


def augmented_fit(
    size_hw: tuple[int, int],
    canvas_hw: tuple[int, int],
    augmentation: DetectionAugmentation,
    random: np.random.Generator,
) -> Placement:
    """A random zoom and flips on top of fit; over 1 crops a random part, under 1 leaves the image smaller."""
    base = fit(size_hw, canvas_hw)
    scale = base.scale * random.uniform(*augmentation.scale)
    scaled = [s * scale for s in size_hw]
    height, width = (min(c, max(1, round(s))) for s, c in zip(scaled, canvas_hw, strict=True))
    top, left = (-random.uniform(0, max(0.0, s - c)) for s, c in zip(scaled, (height, width), strict=True))
    return Placement(
        scale,
        left,
        top,
        (height, width),
        bool(random.random() < augmentation.flip_horizontal),
        bool(random.random() < augmentation.flip_vertical),
    )


def place(image: Tensor, placement: Placement, canvas: Tensor) -> None:
    """Draw uint8 [3, H, W] onto a grey uint8 canvas [3, Hc, Wc] as the placement says."""
    rows, columns = placement.window(image.shape[1], image.shape[2])
    height, width = placement.content_px
    content = tv.resize(image[:, rows, columns], [height, width], antialias=True)
    canvas.fill_(CANVAS_GREY)
    canvas[:, :height, :width] = placement.flipped(content)


def place_mask(mask: Tensor, placement: Placement, canvas: Tensor) -> None:
    """Draw class numbers uint8 [H, W] onto a canvas uint8 [Hc, Wc] as `place` does, each by its nearest pixel."""
    window = placement.window(mask.shape[0], mask.shape[1])
    content = tv.resize(mask[window][None], list(placement.content_px), tv.InterpolationMode.NEAREST_EXACT)[0]
    height, width = placement.content_px
    canvas.fill_(VOID)
    canvas[:height, :width] = placement.flipped(content)


CANVAS_GREY = 114  # near ImageNet's mean: padding is close to zero once normalised


def recolour(image: Tensor, augmentation: DetectionAugmentation, random: np.random.Generator) -> Tensor:
    """Random brightness and contrast of a uint8 [3, H, W] image."""
    return _recolour(image, augmentation.brightness, augmentation.contrast, random)
