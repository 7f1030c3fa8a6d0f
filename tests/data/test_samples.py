"""Images as tasks read them: those of a dataset, real ones among them, and those of anywhere else."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from stages.data import formats
from stages.data.dataset import Dataset
from stages.data.samples import LooseImages, StoredImages
from stages.data.targets.classification import ClassificationSamples
from stages.data.targets.detection import DetectionSamples
from stages.ingest import ingest
from stages.params.augmentation import ClassificationAugmentation, DetectionAugmentation


def picture(width, height, seed=0, fmt="JPEG", **options):
    data = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(data, fmt, **options)
    return data.getvalue()


@pytest.fixture(scope="module")
def bccd(shared_data, tmp_path_factory):
    """Twelve real images with boxes, as ingest makes a dataset of them."""
    import shutil

    source, few = shared_data / "bccd" / "BCCD", tmp_path_factory.mktemp("source") / "few"
    for name in ("JPEGImages", "Annotations"):
        (few / name).mkdir(parents=True)
        for file in sorted((source / name).iterdir())[:12]:
            shutil.copy(file, few / name)
    folder = tmp_path_factory.mktemp("data") / "cells"
    ingest(folder, formats.open_source("voc", few), split="train=0.5,test=0.5", progress=False, workers=1)
    return Dataset(folder)


def test_stored_images_are_those_of_the_source_in_the_order_of_their_keys(bccd, shared_data):
    images = StoredImages(bccd, "train", "source")
    assert len(images) == bccd.splits["train"] > 2
    keys = [images.value("key", i) for i in range(len(images))]
    assert keys == sorted(keys)
    for i in range(len(images)):
        encoded = images.image(i)
        original = shared_data / "bccd" / "BCCD" / images.value("source", i)
        assert encoded.key == keys[i] and encoded.data == original.read_bytes()
        assert tuple(encoded.decode().shape) == (3, encoded.height, encoded.width) == (3, 480, 640)


def test_boxes_of_real_images_lie_on_the_canvas(bccd):
    images = StoredImages(bccd, "train", "objects")
    samples = DetectionSamples(images, bccd.classes, (240, 320), DetectionAugmentation(), augment_seed=1)
    canvas, counts = torch.empty(samples.image_shape, dtype=torch.uint8), []
    for index in range(len(samples)):
        item = samples.load(index, 0, canvas)
        boxes, objects = item["boxes_xyxy"], images.value("objects", index)
        assert [bccd.classes[label] for label in item["target"].labels] == [o["label"] for o in objects]
        assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= [320, 240]).all()
        assert len(item["labels"]) == len(boxes) <= len(objects)
        np.testing.assert_allclose(item["target"].boxes_xyxy, [o["bbox_xyxy"] for o in objects])
        counts.append(len(boxes))
    assert sum(counts) > 20


class Listed:
    """One image with given columns."""

    def __init__(self, **columns):
        self.columns, self.loose = columns, LooseImages([picture(64, 64)])

    def __len__(self):
        return 1

    def image(self, index):
        return self.loose.image(index)

    def value(self, column, index):
        return self.columns[column]


def thing(*xyxy, label="a", is_crowd=False):
    return {"label": label, "bbox_xyxy": list(map(float, xyxy)), "is_crowd": is_crowd}


def detection(objects):
    samples = DetectionSamples(Listed(objects=objects), ("a", "b"), (64, 64), DetectionAugmentation())
    return samples.load(0, 0, torch.empty(samples.image_shape, dtype=torch.uint8))


@pytest.mark.parametrize("objects", [None, []])
def test_an_image_without_boxes_has_empty_targets(objects):
    item = detection(objects)
    assert item["boxes_xyxy"].shape == (0, 4) and item["labels"].shape == (0,)
    assert item["target"].boxes_xyxy.shape == (0, 4) and item["target"].labels.dtype == np.int64


def test_crowds_and_slivers_are_targets_but_not_trained_on():
    item = detection(
        [thing(0, 0, 9, 9), thing(1, 1, 1.5, 60), thing(0, 0, 60, 60, is_crowd=True), thing(5, 5, 9, 9, label="b")]
    )
    assert item["boxes_xyxy"].tolist() == [[0, 0, 9, 9], [5, 5, 9, 9]] and item["labels"].tolist() == [0, 1]
    assert item["target"].is_crowd.tolist() == [False, False, True, False]
    assert item["target"].labels.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize(("labels", "target"), [(["b"], 1), (["a", "b"], 0), ([], -1), (None, -1)])
def test_a_label_becomes_its_class_number(labels, target):
    samples = ClassificationSamples(Listed(labels=labels), ("a", "b"), 32, ClassificationAugmentation())
    item = samples.load(0, 0, torch.empty(samples.image_shape, dtype=torch.uint8))
    assert item == {"key": "0" * 16, "target": target}


def test_a_loose_image_is_upright_and_knows_its_size():
    exif = Image.Exif()
    exif[0x0112] = 6
    images = LooseImages([picture(40, 20), picture(40, 20, exif=exif), picture(30, 10, fmt="PNG")])
    assert [(images.image(i).width, images.image(i).height) for i in range(3)] == [(40, 20), (20, 40), (30, 10)]
    assert [tuple(images.image(i).decode().shape) for i in range(3)] == [(3, 20, 40), (3, 40, 20), (3, 10, 30)]
    assert len({images.image(i).key for i in range(3)}) == len(images) == 3
    assert images.value("labels", 0) is None


NO_BOXES = ([1, 2, 3], [5, 2, 3, 9], [1, 2, math.nan, 4], [1, 2, math.inf, 4], "box", "1234", b"1234", 7)


@pytest.mark.parametrize("box", [*NO_BOXES, dict.fromkeys("1234")])
def test_a_box_that_is_none_is_named(box):
    with pytest.raises(ValueError, match=r"image 1: box_xyxy .*: give \[x1, y1, x2, y2\] in pixels"):
        LooseImages([picture(40, 20), picture(40, 20)], [None, box])


@pytest.mark.parametrize("box", [[41, 2, 50, 9], [-9, 2, -1, 9], [1, 21, 9, 30], [1, -9, 9, -1]])
def test_a_box_outside_the_image_is_refused(box):
    with pytest.raises(ValueError, match=r"image 0: box_xyxy .* outside the image, which has 40 x 20 pixels"):
        LooseImages([picture(40, 20)], [box])


@pytest.mark.parametrize("box", [(-5, -5, 45, 25), [39.5, 2, 60, 9], np.array([0, 19, 1, 30])])
def test_a_box_that_reaches_into_the_image_is_taken_as_it_is(box):
    assert LooseImages([picture(40, 20)], [box]).image(0).asked_xyxy == tuple(box)
