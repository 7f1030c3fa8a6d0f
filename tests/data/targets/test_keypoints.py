"""Joints after every random change, who is a target, and the area that OKS goes by."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stages.data.samples import Encoded, LooseImages
from stages.data.targets.keypoints import KeypointSamples, PersonSamples, area_of
from stages.params.augmentation import KeypointAugmentation
from stages.params.keypoints import HeatmapParams
from stages.params.skeleton import Skeleton

JOINTS = Skeleton(("left_end", "right_end", "tip"))
PLACES = ((40, 30), (100, 30), (70, 60))  # red, green, blue
PLAIN = KeypointAugmentation(flip_horizontal=0.0)
WILD = KeypointAugmentation(flip_horizontal=0.5, flip_vertical=0.5, scale=(0.6, 1.6))


def person(*places: tuple[float, float, int], **keys: Any) -> dict[str, Any]:
    thing = {"label": "b", "bbox_xyxy": [30.0, 20.0, 110.0, 70.0], "is_crowd": False}
    return thing | {"keypoints": [float(v) for place in places for v in place]} | keys


WHOLE = person(*((x + 0.5, y + 0.5, 2) for x, y in PLACES))


class OneImage:
    """160 x 80 pixels, a coloured dot at each joint of the person in the middle."""

    def __init__(self, *objects: dict[str, Any]) -> None:
        self.objects = list(objects)

    def __len__(self) -> int:
        return 1

    def image(self, index: int) -> Encoded:
        pixels = np.zeros((80, 160, 3), np.uint8)
        for channel, (x, y) in enumerate(PLACES):
            pixels[y - 3 : y + 4, x - 3 : x + 4, channel] = 255
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, "PNG")
        return Encoded("0000000000000001", data.getvalue(), "RGB", "PNG", 1, 160, 80)

    def value(self, column: str, index: int) -> Any:
        return self.objects


def all_persons(*objects: Any, augmentation: Any = PLAIN, seed: int | None = None) -> KeypointSamples:
    return KeypointSamples(OneImage(*objects), ("a", "b"), JOINTS, (64, 96), augmentation, seed)


def one_person(*objects: Any, augmentation: Any = PLAIN, seed: int | None = None, **params: Any) -> PersonSamples:
    return PersonSamples(OneImage(*objects), "b", JOINTS, (64, 96), augmentation, HeatmapParams(**params), seed)


def loaded(samples: Any, epoch: int = 0) -> tuple[np.ndarray, dict[str, Any]]:
    image = torch.empty(samples.image_shape, dtype=torch.uint8)
    item = samples.load(0, epoch, image)
    return image.numpy(), item


def colour_at(image: np.ndarray, joint: np.ndarray) -> int:
    """The channel of the dot at a place."""
    x, y = (int(v) for v in joint[:2])
    near = image[:, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].astype(float).mean((1, 2))
    assert near.max() > 120
    return int(near.argmax())


@pytest.mark.parametrize("epoch", range(10))
@pytest.mark.parametrize("make", [all_persons, one_person])
def test_joints_follow_the_image_and_sides_change_in_a_mirror(make: Any, epoch: int) -> None:
    image, item = loaded(make(WHOLE, augmentation=WILD, seed=0), epoch)
    joints = np.reshape(item["keypoints"], (-1, 3))
    place = item.get("placement") or item["crop"]
    mirrored = place.is_flipped_x != place.is_flipped_y if "placement" in item else place.is_mirrored
    expected = [1, 0, 2] if mirrored else [0, 1, 2]
    for joint, colour in zip(joints, expected, strict=False):
        if joint[2] > 0 and 2 < joint[0] < 94 and 2 < joint[1] < 62:
            assert colour_at(image, joint) == colour


def test_a_joint_that_a_crop_cut_off_or_nobody_labelled_is_not_seen() -> None:
    unlabelled = person((40, 30, 2), (-300, -300, 0), (70, 60, 1))
    _, item = loaded(all_persons(unlabelled))
    assert item["keypoints"][0, :, 2].tolist() == [2, 0, 1]
    outside = person((40, 30, 2), (-3, 30, 2), (70, 200, 2))
    _, item = loaded(one_person(outside))
    assert item["keypoints"][:, 2].tolist() == [2, 0, 0]
    assert item["target"].keypoints[0, 1].tolist() == [-3, 30, 2]  # but it is measured
    _, item = loaded(one_person(WHOLE, augmentation=KeypointAugmentation(scale=(8, 8)), seed=0))
    assert not item["keypoints"][:, 2].all()


def test_who_is_a_target() -> None:
    blank = person((0, 0, 0), (0, 0, 0), (0, 0, 0))
    crowd = {"label": "b", "bbox_xyxy": [0.0, 0.0, 9.0, 9.0], "is_crowd": True, "keypoints": []}
    other = {"label": "a", "bbox_xyxy": [0.0, 0.0, 9.0, 9.0], "is_crowd": False, "keypoints": []}
    _, item = loaded(all_persons(WHOLE, blank, crowd, other))
    assert item["target"].is_crowd.tolist() == [False, False, True]
    assert item["labels"].tolist() == [1, 1] and len(item["boxes_xyxy"]) == len(item["keypoints"]) == 2
    _, item = loaded(one_person(blank, crowd, WHOLE))
    assert item["target"].keypoints.tolist() == [np.reshape(WHOLE["keypoints"], (3, 3)).tolist()]


def test_heatmaps_see_the_largest_person_and_in_training_each_epoch_another() -> None:
    small = person((10, 10, 2), (20, 10, 2), (15, 20, 2), bbox_xyxy=[5.0, 5.0, 25.0, 25.0])
    _, item = loaded(one_person(small, WHOLE))
    assert item["target"].boxes_xyxy.tolist() == [WHOLE["bbox_xyxy"]]
    seen = [loaded(one_person(small, WHOLE, seed=0), epoch)[1]["target"].boxes_xyxy[0, 0] for epoch in range(12)]
    assert {float(v) for v in seen} == {5.0, 30.0}
    again = [loaded(one_person(small, WHOLE, seed=0), epoch)[1]["target"].boxes_xyxy[0, 0] for epoch in range(12)]
    assert seen == again


def test_what_the_crop_is() -> None:
    _, whole = loaded(one_person(WHOLE))
    np.testing.assert_allclose(whole["crop"].to_canvas(np.array([[0.0, 0], [160, 80]])), [[0, 8], [96, 56]])
    image, boxed = loaded(one_person(WHOLE, crop="box", box_margin=1.0))
    np.testing.assert_allclose(boxed["crop"].to_canvas(np.array([[30.0, 45], [110, 45]])), [[0, 32], [96, 32]])
    assert [colour_at(image, joint) for joint in boxed["keypoints"]] == [0, 1, 2]
    _, nobody = loaded(one_person(crop="box"))
    np.testing.assert_allclose(nobody["crop"].matrix, whole["crop"].matrix)
    assert not nobody["keypoints"].any() and len(nobody["target"].labels) == 0


def test_loose_images_have_nobody() -> None:
    images = LooseImages([OneImage().image(0).data])
    samples = PersonSamples(images, "b", JOINTS, (64, 96), PLAIN, HeatmapParams())
    assert len(loaded(samples)[1]["target"].labels) == 0
    samples = KeypointSamples(images, ("b",), JOINTS, (64, 96), PLAIN)
    assert loaded(samples)[1]["keypoints"].shape == (0, 3, 3)


def test_a_box_that_is_asked_about_shows_what_the_label_would() -> None:
    data, params = OneImage().image(0).data, {"crop": "box", "box_margin": 1.25}
    expected, item = loaded(one_person(WHOLE, **params))
    assert item["box_xyxy"] == tuple(WHOLE["bbox_xyxy"])
    for crop in ("box", "image"):
        asked = LooseImages([data], [WHOLE["bbox_xyxy"]])
        told = PersonSamples(asked, "b", JOINTS, (64, 96), PLAIN, HeatmapParams(**params | {"crop": crop}))
        image, item = loaded(told)
        assert np.array_equal(image, expected) == (crop == "box") and item["box_xyxy"] is None
    whole, _ = loaded(PersonSamples(LooseImages([data], [None]), "b", JOINTS, (64, 96), PLAIN, HeatmapParams(**params)))
    np.testing.assert_array_equal(whole, loaded(one_person(WHOLE))[0])


def test_the_area_is_that_of_the_mask_else_a_share_of_the_box() -> None:
    square = [[10.0, 10, 30, 10, 30, 30, 10, 30], [0.0, 0, 4, 0, 4, 4]]
    assert area_of(person(polygons=square, rle=None), 160, 80) == 400 + 8
    from pycocotools import mask

    pixels = np.zeros((80, 160), np.uint8, order="F")
    pixels[10:30, 20:25] = 1
    counts = mask.encode(pixels)["counts"].decode()
    assert area_of(person(polygons=[], rle=counts), 160, 80) == 100
    assert area_of(WHOLE, 160, 80) == pytest.approx(80 * 50 * 0.53)
