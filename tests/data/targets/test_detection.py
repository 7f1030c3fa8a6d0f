"""Images with boxes: after every random change the box still surrounds the object."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stages.data.samples import Encoded, LooseImages
from stages.data.targets.classification import ClassificationSamples
from stages.data.targets.detection import DetectionSamples
from stages.data.transforms import fit
from stages.params.augmentation import ClassificationAugmentation, DetectionAugmentation

BOX = (60, 20, 90, 50)


class OneImage:
    """A dark image with a bright rectangle, and a crowd."""

    def __len__(self) -> int:
        return 1

    def image(self, index: int) -> Encoded:
        pixels = np.zeros((80, 160, 3), np.uint8)
        pixels[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 255
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, "PNG")
        return Encoded("0000000000000001", data.getvalue(), "RGB", "PNG", 1, 160, 80)

    def value(self, column: str, index: int) -> Any:
        if column == "labels":
            return ["b"]
        crowd = {"label": "a", "bbox_xyxy": [0, 0, 40, 40], "is_crowd": True}
        return [{"label": "b", "bbox_xyxy": list(BOX), "is_crowd": False}, crowd]


def loaded(
    augmentation: DetectionAugmentation, epoch: int, seed: int | None = 0
) -> tuple[torch.Tensor, dict[str, Any]]:
    samples = DetectionSamples(OneImage(), ("a", "b"), (64, 64), augmentation, seed)
    image = torch.empty(samples.image_shape, dtype=torch.uint8)
    return image, samples.load(0, epoch, image)


@pytest.mark.parametrize("epoch", range(12))
def test_boxes_follow_flips_and_zoom(epoch: int) -> None:
    augmentation = DetectionAugmentation(flip_horizontal=0.5, flip_vertical=0.5, scale=(0.6, 1.6))
    image, sample = loaded(augmentation, epoch)
    rows, columns = np.nonzero(image[0].numpy() > 180)
    if not len(sample["boxes_xyxy"]):
        assert len(rows) < 4  # cropped away
        return
    seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    assert np.abs(seen - sample["boxes_xyxy"][0]).max() <= 2


def test_crowds_are_measured_but_not_trained_on() -> None:
    _, sample = loaded(DetectionAugmentation(), 0, seed=None)
    assert sample["labels"].tolist() == [1]
    assert sample["target"].is_crowd.tolist() == [False, True]


def test_the_same_epoch_gives_the_same_pixels_and_another_gives_others() -> None:
    augmentation = DetectionAugmentation(scale=(0.5, 1.5), brightness=0.4)
    assert torch.equal(loaded(augmentation, 3)[0], loaded(augmentation, 3)[0])
    assert not torch.equal(loaded(augmentation, 3)[0], loaded(augmentation, 4)[0])


def test_canvas_and_back() -> None:
    placement = fit((80, 160), (64, 64))
    boxes = np.array([[10.0, 10, 150, 70]])
    np.testing.assert_allclose(placement.to_original(placement.to_canvas(boxes)), boxes)
    assert placement.content_px == (32, 64)


def test_classification_takes_the_centre_when_it_measures() -> None:
    augmentation = ClassificationAugmentation(test_crop=1.0)
    samples = ClassificationSamples(OneImage(), ("a", "b"), 32, augmentation)
    image = torch.empty(samples.image_shape, dtype=torch.uint8)
    assert samples.load(0, 0, image)["target"] == 1
    assert image.shape == (3, 32, 32)
    assert image[0, 8:20, 9:19].min() > 200  # the rectangle, at 80 px to 32 px, cut to the middle 80 px


def test_loose_images_name_the_one_that_is_broken() -> None:
    good = OneImage().image(0).data
    with pytest.raises(ValueError, match="image 1: "):
        LooseImages([good, good[: len(good) // 2]])
