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

from stages import export
from stages.data import run_lengths
from stages.data.lookup import Sighting
from stages.data.samples import Encoded
from stages.metrics import (
    bootstrap,
    classification,
    detection,
    instance_segmentation,
    keypoints,
    multilabel,
    segmentation,
)
from stages.params.document import task_section
from stages.params.skeleton import Skeleton
from stages.tasks import evaluation
from stages.tasks import task as tasks
from stages.tracking import exposure, findings, requests

CLASSES = ("a", "b", "c")
JOINTS = Skeleton(("left_top", "right_top", "left_bottom", "right_bottom"))
ENTRY = {"dataset": "d", "backbone": "b", "training": {"steps": 1}}
AGGREGATES = {  # files of an evaluation that tell of no single image
    "classes.png", "classes.txt", "comparison.png", "confusion.png", "curves.png", "joints.png",
    "precision_recall.png", "reliability.png",
}  # fmt: skip
NO_BOXES, NO_NUMBERS = np.zeros((0, 4), np.float32), np.zeros(0)


@singledispatch
def perfect(target: Any, key: str) -> Any:
    raise TypeError(f"say here what a perfect prediction of a {type(target).__name__} is")


@perfect.register
def _(target: int, key: str) -> classification.Prediction:
    return classification.Prediction(key, np.eye(len(CLASSES), dtype=np.float32)[target])


@perfect.register
def _(target: multilabel.Target, key: str) -> classification.Prediction:
    return classification.Prediction(key, target.is_present.astype(np.float32))


@perfect.register
def _(target: detection.Target, key: str) -> detection.Prediction:
    scores = np.linspace(0.9, 0.6, len(target.labels), dtype=np.float32)
    return detection.Prediction(key, target.boxes_xyxy, scores, target.labels)


@perfect.register
def _(target: segmentation.Target, key: str) -> segmentation.Prediction:
    return segmentation.Prediction(key, target.classes, np.full(len(CLASSES), 0.9, np.float32))


@perfect.register
def _(target: instance_segmentation.Target, key: str) -> instance_segmentation.Prediction:
    scores = np.linspace(0.9, 0.6, len(target.labels), dtype=np.float32)
    return instance_segmentation.Prediction(key, target.boxes_xyxy, scores, target.labels, target.masks)


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
                "bbox_xyxy": list(map(float, (x1, y1, x2, y2))),
                "is_crowd": False,
                "polygons": [list(map(float, (x1, y1, x2, y1, x2, y2, x1, y2)))],
                "rle": None,
                "keypoints": [float(v) for x, y in ((x1, y1), (x2, y1), (x1, y2), (x2, y2)) for v in (x, y, 2)],
            }
            for i, (x1, y1, x2, y2) in enumerate(corners)
        ]
        numbers = self.mask(index, CLASSES)
        there = [n for n in range(3) if (numbers == n).any()]
        masks = {"mask_labels": [CLASSES[n] for n in there], "mask_pixels": [int((numbers == n).sum()) for n in there]}
        told = {"key": f"{index:016x}", "source": f"{index}.png", "labels": [CLASSES[index % 3]], "objects": objects}
        return {**told, **masks}[column]

    def mask(self, index, classes):
        """Stripes, of one class in some images, with a part that is not labelled."""
        numbers = np.full((80, 100), index % 3, np.uint8)
        numbers[20:50, 30:] = (index + index // 3) % 3
        numbers[70:] = 255
        return numbers


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


def test_whoever_reads_answers_reads_those_of_every_kind(task_and_truth):
    """In the form that the kind's section names: told, logged, drawn, written as COCO, guessed for a person."""
    task, targets = task_and_truth
    file, skeleton = io.BytesIO(), {"joints": JOINTS.joints, "edges": JOINTS.edges}
    results, num_findings = export.CocoFile(file, CLASSES, skeleton), 0
    for key, target in targets.items():
        content = json.loads(json.dumps(task.answer(perfect(target, key))))
        answer = findings.read(content)
        assert answer.form == findings.form_of(task.params.kind)
        assert 0 <= answer.uncertainty <= 1 and answer.first_guess() == content
        labels, scores = requests.said([content])
        assert len(labels) == len(scores) == len(answer.findings)  # what is perfect is sure
        line = answer.words(findings.SHOWN_SCORE)
        assert all(label in line for label in labels) and line
        assert export.draw(np.zeros((80, 100, 3), np.uint8), content, CLASSES, 0.5, skeleton).startswith(b"\x89PNG")
        results.add(f"{key}.png", 100, 80, content)
        num_findings += len(labels)
    results.finish()
    assert len(json.loads(file.getvalue())["annotations"]) == num_findings > 0


def test_whatever_an_evaluation_leaves_of_single_images_a_purge_knows(smallest, tmp_path):
    task, targets = truth({**smallest, "evaluation": {"resamples": 50, "num_pictures": 4}})
    metric = measured(task, [perfect(target, key) for key, target in targets.items()], targets)
    metrics = {"before": metric, "after": metric}
    compared = bootstrap.compare({name: metric.resampled() for name in metrics}, 50, 0.95, 0)
    history = {"fine-tuned": [{"step": 1, "loss": 1.0}]}
    done = evaluation.Evaluation("k", task, task.params, Marked(), metrics, history, compared, 0, {})
    evaluation.write(done, tmp_path / "k.json", tmp_path / "k")
    written = {file.relative_to(tmp_path / "k").as_posix() for file in (tmp_path / "k").rglob("*") if file.is_file()}
    shown = [Sighting("d", key, "f" * 64, "test", [], f"{key}.png", "s", ("v",), 0) for key in targets]
    assert written - AGGREGATES <= exposure.files(shown)
    assert exposure.files(shown) & written > {"random.png", "worst.png"}, "answers"


def test_answer_of_a_classifier_by_hand():
    task = tasks.build(task_section({"kind": "classification", **ENTRY}), CLASSES)
    prediction = classification.Prediction("k", np.array([0.25, 0.5, 0.25], np.float32))
    answer = task.answer(prediction)
    assert answer == {"label": "b", "score": 0.5, "scores": {"b": 0.5, "a": 0.25, "c": 0.25}}
    assert list(answer["scores"]) == ["b", "a", "c"]


def test_answer_of_a_multi_label_classifier_by_hand_and_back():
    task = tasks.build(task_section({"kind": "classification", "multi_label": True, **ENTRY}), CLASSES)
    prediction = classification.Prediction("k", np.array([0.5, 0.75, 0.25], np.float32))
    answer = json.loads(json.dumps(task.answer(prediction)))
    assert answer["labels"] == [{"label": "b", "score": 0.75}, {"label": "a", "score": 0.5}]
    assert list(answer["scores"]) == ["b", "a", "c"]
    assert task.prediction("k", answer).probabilities.tolist() == [0.5, 0.75, 0.25]
    assert task.answer(classification.Prediction("k", np.zeros(3, np.float32)))["labels"] == []


def test_labels_of_objects_are_refused_for_one_label_an_image():
    with pytest.raises(ValueError, match="labels_from: objects needs multi_label: true"):
        task_section({"kind": "classification", "labels_from": "objects", **ENTRY})


def test_answer_of_a_detector_by_hand():
    task = tasks.build(task_section({"kind": "detection", **ENTRY}), CLASSES)
    boxes = np.array([[1, 2, 3, 4], [5, 6, 7.5, 8]], np.float32)
    found = detection.Prediction("k", boxes, np.array([0.75, 0.5], np.float32), np.array([2, 0]))
    assert task.answer(found)["boxes"] == [
        {"label": "c", "score": 0.75, "box_xyxy": [1, 2, 3, 4]},
        {"label": "a", "score": 0.5, "box_xyxy": [5, 6, 7.5, 8]},
    ]
    assert task.answer(detection.Prediction("k", NO_BOXES, NO_NUMBERS, NO_NUMBERS))["boxes"] == []


def test_answer_of_instance_segmentation_by_hand_and_back():
    task = tasks.build(task_section({"kind": "instance_segmentation", **ENTRY}), CLASSES)
    boxes = np.array([[1, 2, 3, 4.1], [5, 6, 7.5, 8]], np.float32)
    mask = run_lengths.of_box((1, 2, 3, 4), 9, 10)
    found = instance_segmentation.Prediction(
        "k", boxes, np.array([0.7, 0.1], np.float32), np.array([2, 0]), (mask,) * 2
    )
    said = json.loads(json.dumps(task.answer(found)))
    assert said["boxes"][1] | {"score": 0.1} == {
        "label": "a", "score": 0.1, "box_xyxy": [5, 6, 7.5, 8], "mask": {"size": [9, 10], "counts": mask["counts"]}
    }  # fmt: skip
    back = task.prediction("k", said)
    assert back.boxes_xyxy.tobytes() == boxes.tobytes() and back.scores.tobytes() == found.scores.tobytes()
    assert back.labels.tolist() == [2, 0] and back.masks == found.masks
    other = {"boxes": [{**said["boxes"][0], "label": "of another version"}, said["boxes"][1]]}
    assert len(task.prediction("k", other).masks) == 1
    said["boxes"][0]["mask"]["size"] = [10, 10]
    with pytest.raises(ValueError, match="image k: run lengths of an answer do not fill"):
        task.prediction("k", said)
