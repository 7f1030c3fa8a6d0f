"""From real COCO files to what evaluate leaves: perfect predictions score 1, and official tools read the files."""

import contextlib
import csv
import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from stages.data.dataset import Dataset
from stages.data.formats import coco
from stages.data.samples import LooseImages, StoredImages
from stages.ingest import ingest
from stages.metrics import classification
from stages.metrics.instance_segmentation import Prediction
from stages.models import backbones
from stages.params.document import task_section
from stages.tasks import task as tasks
from stages.tasks.trained import predict

NUM_IMAGES = 24
ENTRY = {"dataset": "d", "backbone": "b", "training": {"steps": 1}}
INSTANCES = {"kind": "instance_segmentation", "image_size_px": [64, 96], **ENTRY}
LABELS = {"kind": "classification", "multi_label": True, "labels_from": "objects", "image_px": 32, **ENTRY}


@pytest.fixture(scope="module")
def dataset(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Images of coco-mini's validation set, those with crowds among them."""
    source = coco.read(shared_data / "coco-mini")
    found = [item for item in source.records() if item.path.startswith("val") and getattr(item, "boxes", None)]
    found.sort(key=lambda item: (not any(box.is_crowd for box in item.boxes), item.path))
    chosen = sorted(found[:NUM_IMAGES], key=lambda item: item.path)
    folder = tmp_path_factory.mktemp("data") / "coco"
    ingest(folder, replace(source, records=lambda: iter(chosen)), split="test", progress=False, workers=1)
    return Dataset(folder)


def truth(entry: dict[str, Any], dataset: Dataset) -> tuple[Any, StoredImages, list[Any]]:
    task = tasks.build(task_section(entry), dataset.classes)
    images = StoredImages(dataset, "test", *task.columns)
    samples = task.samples(images)
    canvas = torch.empty(samples.image_shape, dtype=torch.uint8)
    return task, images, [samples.load(i, 0, canvas)["target"] for i in range(len(samples))]


def results(task: Any, images: StoredImages, metric: Any, folder: Path) -> None:
    place = {images.value("key", i): i for i in range(len(images))}
    decoded = lambda key: images.image(place[key]).decode().permute(1, 2, 0).numpy()  # noqa: E731
    evaluation = SimpleNamespace(metrics={"after": metric}, image=decoded)
    task.write_results(evaluation, folder)
    task.draw(evaluation, metric.worst(1)[0]).save(folder / "drawn.png")


def test_instances(dataset: Dataset, tmp_path: Path) -> None:
    task, images, targets = truth(INSTANCES, dataset)
    assert sum(target.is_crowd.sum() for target in targets) == 5
    metric = task.metric()
    for target in targets:
        kept = np.flatnonzero(~target.is_crowd)
        scores = np.linspace(0.9, 0.6, len(kept), dtype=np.float32)
        masks = tuple(target.masks[i] for i in kept)
        found = Prediction(target.key, target.boxes_xyxy[kept], scores, target.labels[kept], masks)
        metric.update([task.prediction(target.key, task.answer(found))], [target])
    numbers = metric.compute()
    assert numbers["mask_ap"] == numbers["ap"] == pytest.approx(1.0)
    assert numbers["mask_mean_iou"] == pytest.approx(1.0) and set(metric.per_image().values()) == {1.0}
    results(task, images, metric, tmp_path)
    for name, iou_type in (("predictions", "segm"), ("predictions_boxes", "bbox")):
        with contextlib.redirect_stdout(io.StringIO()):
            official = COCO(str(tmp_path / "ground_truth.json"))
            evaluator = COCOeval(official, official.loadRes(str(tmp_path / f"{name}.json")), iou_type)
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.summarize()
        assert evaluator.stats[0] == numbers["mask_ap" if iou_type == "segm" else "ap"]
    assert {"classes.png", "precision_recall.png", "drawn.png"} <= {file.name for file in tmp_path.iterdir()}


def test_an_untrained_model_answers_in_pixels_of_each_original(dataset: Dataset) -> None:
    head = {"faster_rcnn": {"fpn_channels": 16, "anchor_sizes_px": [8, 16, 32, 64], "head_channels": 16,
            "rpn_proposals_test": 20, "score_threshold": 0.0, "max_detections": 7},
            "mask_head": {"channels": 8, "layers": 1, "threshold": 0.3}}  # fmt: skip
    task = tasks.build(task_section(INSTANCES | head), dataset.classes)
    torch.manual_seed(0)
    model = task.model(backbones.build("resnet18", stem="imagenet"))
    sizes, files = [(300, 20), (17, 400), (64, 96)], []
    for height, width in sizes:
        data = io.BytesIO()
        noise = np.random.default_rng(height).integers(0, 255, (height, width, 3), np.uint8)
        Image.fromarray(noise).save(data, "PNG")
        files.append(data.getvalue())
    found, _ = predict(task, model, task.samples(LooseImages(files)))
    for prediction, size in zip(found, sizes, strict=True):
        assert 0 < len(prediction.masks) <= 7
        assert all(mask["size"] == list(size) for mask in prediction.masks)
        assert (prediction.boxes_xyxy <= [size[1], size[0]] * 2).all()


def test_labels_of_objects(dataset: Dataset, tmp_path: Path) -> None:
    task, images, targets = truth(LABELS, dataset)
    metric = task.metric()
    metric.update(
        [classification.Prediction(t.key, np.where(t.is_present, 0.9, 0.1).astype(np.float32)) for t in targets],
        targets,
    )
    numbers = metric.compute()
    assert (numbers["map"], numbers["exact_match"], numbers["micro_f1"]) == (1.0, 1.0, 1.0)
    assert 1 < numbers["labels_per_image"] < 10
    results(task, images, metric, tmp_path)
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    named = {name for row in rows for name in row["truth"].split(";")}
    assert len(rows) == NUM_IMAGES and "person" in named <= set(dataset.classes)
    assert {"reliability.png", "classes.png", "drawn.png"} <= {file.name for file in tmp_path.iterdir()}
