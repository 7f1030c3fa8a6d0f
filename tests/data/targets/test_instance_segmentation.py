"""Images with masks: after every random change the mask still covers the object."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stages.data import run_lengths
from stages.data.formats import open_source
from stages.data.records import Record
from stages.data.samples import Encoded, LooseImages
from stages.data.targets.instance_segmentation import InstanceSegmentationSamples, place
from stages.data.transforms import Placement, fit
from stages.params.augmentation import DetectionAugmentation

CORNERS = [60.0, 20, 100, 30, 80, 60]  # a triangle


def triangle() -> np.ndarray:
    return run_lengths.decoded(run_lengths.of_polygons([CORNERS], 80, 160))


def thing(**changes: Any) -> dict[str, Any]:
    box = {"label": "b", "bbox_xyxy": [60.0, 20, 100, 60], "is_crowd": False}
    return {**box, "polygons": [CORNERS], "rle": None, **changes}


class OneImage:
    """A dark image with a bright triangle, and what is said of it."""

    def __init__(self, *objects: dict[str, Any]) -> None:
        self.objects = list(objects) or [thing()]

    def __len__(self) -> int:
        return 1

    def image(self, index: int) -> Encoded:
        pixels = np.repeat((triangle() * 255).astype(np.uint8)[..., None], 3, 2)
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, "PNG")
        return Encoded("0000000000000001", data.getvalue(), "RGB", "PNG", 1, 160, 80)

    def value(self, column: str, index: int) -> Any:
        return self.objects


def loaded(
    images: OneImage, augmentation: DetectionAugmentation = DetectionAugmentation(), epoch: int = 0, seed: Any = None
) -> tuple[np.ndarray, dict[str, Any]]:
    samples = InstanceSegmentationSamples(images, ("a", "b"), (96, 160), augmentation, seed)
    image = torch.empty(samples.image_shape, dtype=torch.uint8)
    return image[0].numpy(), samples.load(0, epoch, image)


def canvas(mask: Any) -> np.ndarray:
    pixels = np.zeros((96, 160), bool)
    x1, y1, x2, y2 = mask.box_xyxy
    pixels[y1:y2, x1:x2] = mask.pixels
    return pixels


@pytest.mark.parametrize("epoch", range(16))
def test_masks_follow_flips_zoom_and_crops(epoch: int) -> None:
    augmentation = DetectionAugmentation(flip_horizontal=0.5, flip_vertical=0.5, scale=(0.6, 2.5))
    image, sample = loaded(OneImage(), augmentation, epoch, seed=0)
    height, width = sample["placement"].content_px
    bright = np.zeros((96, 160), bool)
    bright[:height, :width] = image[:height, :width] > 127
    if not sample["masks"]:
        assert bright.sum() < 4  # cropped away
        return
    mask = canvas(sample["masks"][0])
    unsure = (image > 20) & (image < 235)  # pixels that an edge goes through
    assert (mask == bright)[~unsure].all()
    assert (mask & bright).sum() / (mask | bright).sum() > 0.9
    rows, columns = np.nonzero(mask)
    around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert np.abs(sample["boxes_xyxy"][0] - around).max() <= 2


def test_what_a_crop_cuts_has_the_box_of_what_is_left() -> None:
    # Twice as large, and only the left part: the triangle's right tip is gone.
    placement = Placement(2.0, -100.0, -20.0, (96, 80))
    mask = place(run_lengths.of_polygons([CORNERS], 80, 160), placement)
    assert mask is not None
    seen = np.kron(triangle(), np.ones((2, 2), bool))[20:116, 100:180]
    rows, columns = np.nonzero(seen)
    assert mask.box_xyxy == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    x1, y1, x2, y2 = mask.box_xyxy
    assert (mask.pixels == seen[y1:y2, x1:x2]).all()


def test_without_a_scale_the_mask_is_the_object() -> None:
    mask = place(run_lengths.encoded(triangle()), fit((80, 160), (96, 160)))
    assert mask is not None and (canvas(mask)[:80] == triangle()).all()
    gone = Placement(1.0, -150.0, 0.0, (80, 10))
    assert place(run_lengths.encoded(triangle()), gone) is None


def test_polygons_and_run_lengths_are_the_same_sample() -> None:
    rle = run_lengths.of_polygons([CORNERS], 80, 160)["counts"]
    one, other = (loaded(OneImage(t))[1] for t in (thing(), thing(polygons=[], rle=rle)))
    assert (one["masks"][0].pixels == other["masks"][0].pixels).all()
    assert one["target"].masks == other["target"].masks
    assert one["target"].areas.tolist() == [triangle().sum()]


def test_an_object_without_a_mask_trains_its_box_and_is_measured_as_a_crowd() -> None:
    outside = [500.0, 500, 600, 500, 600, 600]
    bare = [thing(polygons=[], bbox_xyxy=[10.0, 10, 30, 30]), thing(polygons=[outside], bbox_xyxy=[30.0, 10, 50, 30])]
    _, sample = loaded(OneImage(thing(), *bare))
    assert len(sample["boxes_xyxy"]) == 3
    assert [mask is None for mask in sample["masks"]] == [False, True, True]
    target = sample["target"]
    assert target.is_crowd.tolist() == [False, True, True]
    assert run_lengths.box_xyxy(target.masks[1]) == (10, 10, 30, 30) and target.areas[1] == 400


def test_crowds_are_measured_but_not_trained_on() -> None:
    _, sample = loaded(OneImage(thing(), thing(is_crowd=True)))
    assert len(sample["masks"]) == len(sample["labels"]) == len(sample["boxes_xyxy"]) == 1
    assert sample["target"].is_crowd.tolist() == [False, True] and len(sample["target"].masks) == 2


def test_a_dataset_of_boxes_is_refused_and_images_from_anywhere_are_not() -> None:
    with pytest.raises(ValueError, match=r"none of the 2 objects has a mask: .* ingest them .* or use kind detection"):
        loaded(OneImage(thing(polygons=[]), thing(polygons=[])))
    nothing = OneImage()
    nothing.objects = []
    assert loaded(nothing)[1]["masks"] == []
    loose = LooseImages([OneImage().image(0).data])
    samples = InstanceSegmentationSamples(loose, ("a", "b"), (96, 160), DetectionAugmentation())
    sample = samples.load(0, 0, torch.empty(samples.image_shape, dtype=torch.uint8))
    assert sample["masks"] == [] and sample["target"].masks == ()


def test_run_lengths_of_another_size_name_the_image() -> None:
    with pytest.raises(ValueError, match="image 0000000000000001: run lengths of b that do not fill 160x80"):
        loaded(OneImage(thing(), thing(polygons=[], rle=run_lengths.encoded(np.ones((8, 8), bool))["counts"])))


def test_the_same_epoch_gives_the_same_masks_and_another_gives_others() -> None:
    augmentation = DetectionAugmentation(scale=(0.5, 1.5))
    first, again, other = (loaded(OneImage(), augmentation, epoch, seed=1)[1]["masks"][0] for epoch in (3, 3, 4))
    assert first.box_xyxy == again.box_xyxy and (first.pixels == again.pixels).all()
    assert first.box_xyxy != other.box_xyxy


def test_real_crowds_and_polygons_of_coco(shared_data: Any) -> None:
    """Every object of coco-mini has a mask that fits its box, crowds with their run lengths among them."""
    num_crowds, distances = 0, []
    for item in open_source("coco", shared_data / "coco-mini").records():
        if not isinstance(item, Record) or item.size_px is None:
            continue
        width, height = item.size_px
        for box in item.boxes or ():
            entry = {"label": box.label, "polygons": box.polygons, "rle": box.rle}
            rle = run_lengths.of_object(entry, height, width)
            assert rle is not None
            distances.append(np.abs(np.subtract(run_lengths.box_xyxy(rle), box.xyxy)).max())
            num_crowds += box.is_crowd
    assert (len(distances), num_crowds) == (739 + 624, 13)
    # The thinnest tips of polygons cover no pixel's centre.
    assert np.quantile(distances, 0.9) <= 1 and np.quantile(distances, 0.99) <= 3
