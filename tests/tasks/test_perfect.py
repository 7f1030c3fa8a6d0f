"""A task's metric against predictions that are known to be right, wrong or empty."""

import io
import json
import re
from dataclasses import replace
from functools import singledispatch
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stages.data.samples import Encoded
from stages.metrics import classification, detection, keypoints
from stages.params.document import task_section
from stages.params.skeleton import Skeleton
from stages.tasks import task as tasks

CLASSES = ("a", "b", "c")
JOINTS = Skeleton(("left_top", "right_top", "left_bottom", "right_bottom"))
ENTRY = {"dataset": "d", "backbone": "b", "training": {"steps": 1}}
NO_BOXES, NO_NUMBERS = np.zeros((0, 4), np.float32), np.zeros(0)


@singledispatch
def perfect(target: Any, key: str) -> Any:
    raise TypeError(f"say here what a perfect prediction of a {type(target).__name__} is")


@perfect.register
def _(target: int, key: str) -> classification.Prediction:
    return classification.Prediction(key, np.eye(len(CLASSES), dtype=np.float32)[target])


@perfect.register
def _(target: detection.Target, key: str) -> detection.Prediction:
    scores = np.linspace(0.9, 0.6, len(target.labels), dtype=np.float32)
    return detection.Prediction(key, target.boxes_xyxy, scores, target.labels)


@perfect.register
def _(target: keypoints.Target, key: str) -> keypoints.Prediction:
    scores = np.linspace(0.9, 0.6, len(target.labels), dtype=np.float32)
    return keypoints.Prediction(key, target.boxes_xyxy, scores, target.labels, target.keypoints)


class Marked:
    """Six images, each with one label and up to three boxes; one has no object."""

    def __len__(self):
        return 6

    def image(self, index):
        data = io.BytesIO()
        Image.new("RGB", (100, 80)).save(data, "PNG")
        return Encoded(f"{index:016x}", data.getvalue(), "RGB", "PNG", 1, 100, 80)

    def value(self, column, index):
        """Of a column that any task asks for; a new one adds its own here."""
        corners = [(5, 5, 45, 50), (50, 10, 95, 75), (10, 55, 40, 78)][: index % 4]
        objects = [
            {
                "label": CLASSES[(index + i) % 3],
                "bbox_xyxy": list(map(float, box)),
                "is_crowd": False,
                "keypoints": [v for x, y in ((0, 1), (2, 1), (0, 3), (2, 3)) for v in (box[x], box[y], 2.0)],
            }
            for i, box in enumerate(corners)
        ]
        return {"labels": [CLASSES[index % 3]], "objects": objects}[column]


def truth(entry):
    """A task and its targets by key, as its own samples give them."""
    task = tasks.build(task_section(entry), CLASSES, JOINTS)
    samples = task.samples(Marked())
    items = [samples.load(i, 0, torch.empty(samples.image_shape, dtype=torch.uint8)) for i in range(6)]
    return task, {item["key"]: item["target"] for item in items}


@pytest.fixture
def task_and_truth(smallest):
    return truth(smallest)


def measured(task, predictions, targets):
    metric = task.metric()
    metric.update(predictions, list(targets.values()))
    return metric


def test_perfect_predictions_give_the_best_value(task_and_truth):
    task, targets = task_and_truth
    metric = measured(task, [perfect(target, key) for key, target in targets.items()], targets)
    assert metric.compute()[task.main_metric] == pytest.approx(1.0)
    assert set(metric.per_image().values()) == {1.0}


def test_predictions_of_other_images_give_a_worse_value(task_and_truth):
    task, targets = task_and_truth
    keys = list(targets)
    swapped = [
        replace(perfect(targets[other], key), key=key) for key, other in zip(keys, keys[1:] + keys[:1], strict=True)
    ]
    metric = measured(task, swapped, targets)
    assert metric.compute()[task.main_metric] < 0.5
    assert metric.per_image()[metric.worst(1)[0]] == min(metric.per_image().values()) < 1


def test_answers_are_json_with_the_names_of_classes(task_and_truth):
    task, targets = task_and_truth
    for key, target in targets.items():
        said = json.dumps(task.answer(perfect(target, key)), allow_nan=False)
        assert set(re.findall(r'"label": "(\w+)"', said)) <= set(CLASSES)


def test_answer_of_a_classifier_by_hand():
    task = tasks.build(task_section({"kind": "classification", **ENTRY}), CLASSES)
    prediction = classification.Prediction("k", np.array([0.25, 0.5, 0.25], np.float32))
    answer = task.answer(prediction)
    assert answer == {"label": "b", "score": 0.5, "scores": {"b": 0.5, "a": 0.25, "c": 0.25}}
    assert list(answer["scores"]) == ["b", "a", "c"]


def test_answer_of_a_detector_by_hand():
    task = tasks.build(task_section({"kind": "detection", **ENTRY}), CLASSES)
    boxes = np.array([[1, 2, 3, 4], [5, 6, 7.5, 8]], np.float32)
    found = detection.Prediction("k", boxes, np.array([0.75, 0.5], np.float32), np.array([2, 0]))
    assert task.answer(found)["boxes"] == [
        {"label": "c", "score": 0.75, "box_xyxy": [1, 2, 3, 4]},
        {"label": "a", "score": 0.5, "box_xyxy": [5, 6, 7.5, 8]},
    ]
    assert task.answer(detection.Prediction("k", NO_BOXES, NO_NUMBERS, NO_NUMBERS))["boxes"] == []
