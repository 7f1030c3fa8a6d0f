"""Masks as segmentation trains on them: where the image goes, its classes go."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from stages.data import transforms
from stages.data.records import VOID
from stages.data.samples import LooseImages
from stages.data.targets.segmentation import SegmentationSamples
from stages.params.augmentation import SegmentationAugmentation

CLASSES = ("black", "grey", "white")
SHADES = np.array([0, 128, 255], np.uint8)
PLAIN = SegmentationAugmentation(scale=(1.0, 1.0), flip_horizontal=0.0)


class Patches:
    """One image whose shade tells the class of each pixel, in patches; columns as the index has them."""

    def __init__(self, height=48, width=64, mask=True, **columns):
        rng = np.random.default_rng(0)
        patches = rng.integers(0, 3, (height // 16, width // 16))
        self.numbers = patches.repeat(16, 0).repeat(16, 1).astype(np.uint8) if mask else None
        data = io.BytesIO()
        shades = SHADES[self.numbers] if mask else np.zeros((height, width), np.uint8)
        Image.fromarray(shades).convert("RGB").save(data, "PNG")
        self.loose, self.columns = LooseImages([data.getvalue()]), columns

    def __len__(self):
        return 1

    def image(self, index):
        return self.loose.image(index)

    def mask(self, index, classes):
        return self.numbers

    def value(self, column, index):
        return self.columns.get(column)


def load(images, canvas=(48, 64), augmentation=PLAIN, seed=None, epoch=0):
    samples = SegmentationSamples(images, CLASSES, canvas, augmentation, seed)
    image = torch.empty(samples.image_shape, dtype=torch.uint8)
    return samples.load(0, epoch, image), image


def test_at_full_size_the_mask_is_the_stored_one():
    images = Patches()
    item, _ = load(images)
    np.testing.assert_array_equal(item["mask"].numpy(), images.numbers)
    np.testing.assert_array_equal(item["target"].classes, images.numbers)
    assert item["target"].key == item["key"] == "0" * 16


def test_what_lies_beside_the_image_is_not_labelled():
    item, _ = load(Patches(), canvas=(48, 96))
    assert (item["mask"][:, 64:] == VOID).all() and (item["mask"][:, :64] != VOID).all()


def test_an_image_without_a_mask_has_no_labels():
    item, _ = load(Patches(mask=False))
    assert (item["mask"] == VOID).all() and item["target"].classes.shape == (48, 64)
    assert (item["target"].classes == VOID).all()


@pytest.mark.parametrize("scale", [(0.5, 0.5), (1.0, 1.0), (2.0, 2.0), (0.4, 2.5)])
def test_classes_follow_the_image_through_zoom_crop_and_flips(scale):
    augmentation = SegmentationAugmentation(scale=scale, flip_horizontal=0.5, flip_vertical=0.5)
    for epoch in range(12):
        item, image = load(Patches(96, 128), augmentation=augmentation, seed=3, epoch=epoch)
        mask = item["mask"].numpy()
        shown = image[0].numpy()
        is_inside = mask != VOID
        assert (shown[~is_inside] == transforms.CANVAS_GREY).all()
        # Pixels at the edges of patches are mixtures; all others show the shade of their class.
        nearest = np.abs(shown[..., None].astype(int) - SHADES).argmin(-1)
        assert (nearest == mask)[is_inside].mean() > 0.8
        flat = np.abs(shown[..., None].astype(int) - SHADES).min(-1) < 3  # or black and white mixed to the grey
        assert (nearest == mask)[is_inside & flat].mean() > 0.94


def test_the_same_seed_and_epoch_give_the_same_sample():
    augmentation = SegmentationAugmentation()
    first, image = load(Patches(), augmentation=augmentation, seed=1, epoch=5)
    again, same = load(Patches(), augmentation=augmentation, seed=1, epoch=5)
    other, _ = load(Patches(), augmentation=augmentation, seed=1, epoch=6)
    assert first["mask"].equal(again["mask"]) and image.equal(same)
    assert not first["mask"].equal(other["mask"])


def test_pixels_are_counted_from_the_index():
    images = Patches(mask_labels=["white", "black", "purple"], mask_pixels=[10, 30, 99])
    counts, areas = SegmentationSamples(images, CLASSES, (48, 64), PLAIN).pixels
    assert counts.tolist() == [30, 0, 10] and areas.tolist() == [40, 0, 40]  # purple is no class of ours
    counts, _ = SegmentationSamples(LooseImages([]), CLASSES, (48, 64), PLAIN).pixels
    assert counts.tolist() == [0, 0, 0]


def test_more_classes_than_numbers_are_refused():
    with pytest.raises(ValueError, match="segmentation of 256 classes: at most 255"):
        SegmentationSamples(Patches(), [str(i) for i in range(256)], (48, 64), PLAIN)
