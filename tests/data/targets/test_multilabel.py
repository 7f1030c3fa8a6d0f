"""Images with any number of labels, of their own or of their objects."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from stages.data.dataset import Dataset
from stages.data.formats import coco
from stages.data.samples import Encoded, LooseImages, StoredImages
from stages.data.targets.multilabel import MultiLabelSamples
from stages.ingest import ingest
from stages.params.augmentation import ClassificationAugmentation

CLASSES = ("cat", "dog", "owl")


class Images:
    """One grey image, and what each column says of it."""

    def __init__(self, **columns: Any) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return 1

    def image(self, index: int) -> Encoded:
        data = io.BytesIO()
        Image.new("RGB", (40, 40), (90, 90, 90)).save(data, "PNG")
        return Encoded("0000000000000001", data.getvalue(), "RGB", "PNG", 1, 40, 40)

    def value(self, column: str, index: int) -> Any:
        return self.columns[column]


def target(source: str, images: Any, index: int = 0) -> list[bool]:
    samples = MultiLabelSamples(source, images, CLASSES, 32, ClassificationAugmentation())
    return samples.load(index, 0, torch.empty(samples.image_shape, dtype=torch.uint8))["target"].is_present.tolist()


def test_labels_of_the_image_or_of_its_objects() -> None:
    things = [{"label": name, "is_crowd": name == "owl"} for name in ("dog", "owl", "dog")]
    images = Images(labels=["owl", "cat"], objects=things)
    assert target("labels", images) == [True, False, True]
    assert target("objects", images) == [False, True, True]  # a crowd of owls are owls


def test_the_wrong_source_names_the_other_one() -> None:
    images = Images(labels=[], objects=[{"label": "dog", "is_crowd": False}])
    with pytest.raises(ValueError, match="none of the 1 images has labels: is labels_from: objects meant"):
        target("labels", images)
    with pytest.raises(ValueError, match="none of the 1 images has objects: is labels_from: labels meant"):
        target("objects", Images(labels=["cat"], objects=[]))


def test_images_from_anywhere_have_no_label() -> None:
    assert target("labels", LooseImages([Images().image(0).data])) == [False] * 3


def test_coco_files_with_several_labels_an_image(tmp_path: Path) -> None:
    for number in (1, 2):
        Image.new("RGB", (40, 40), (90 * number, 0, 0)).save(tmp_path / f"{number}.png")
    labels = [(1, 1), (1, 3), (2, 2), (1, 3)]
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 40} for i in (1, 2)],
        "annotations": [{"id": n, "image_id": i, "category_id": c} for n, (i, c) in enumerate(labels, start=1)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES, start=1)],
    }
    (tmp_path / "labels.json").write_text(json.dumps(content))
    ingest(tmp_path / "data", coco.read(tmp_path), split="train", progress=False, workers=1)
    dataset = Dataset(tmp_path / "data")
    images = StoredImages(dataset, "train", "labels")
    assert dataset.task == "classification" and dataset.classes == CLASSES
    assert sorted(target("labels", images, i) for i in range(2)) == [[False, True, False], [True, False, True]]
