"""Similarity against pycocotools, sizes of a person, and the crowd index."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from stages.metrics.joints import (
    crowd_index,
    has_torso,
    head_sizes,
    matched,
    object_keypoint_similarity,
    reference_sizes,
)
from stages.params.skeleton import Skeleton


@dataclass
class Crowd:
    boxes_xyxy: np.ndarray
    keypoints: np.ndarray


def test_similarity_equals_pycocotools():
    rng = np.random.default_rng(0)
    truth, found = rng.uniform(0, 100, (3, 5, 3)), rng.uniform(0, 100, (4, 5, 3))
    truth[..., 2] = rng.integers(0, 3, (3, 5))
    truth[:, 0, 2] = 2
    areas, sigmas = np.array([100.0, 4000.0, 9000.0]), rng.uniform(0.02, 0.2, 5)
    things = [
        {"id": i + 1, "image_id": 1, "category_id": 1, "keypoints": t.ravel().tolist(), "area": float(areas[i]),
         "bbox": [0, 0, 9, 9], "num_keypoints": 5, "iscrowd": 0}
        for i, t in enumerate(truth)
    ]  # fmt: skip
    coco = COCO()
    coco.dataset = {"images": [{"id": 1}], "annotations": things, "categories": [{"id": 1}]}
    coco.createIndex()
    results = [
        {"image_id": 1, "category_id": 1, "keypoints": f.ravel().tolist(), "score": 1 - i / 9}
        for i, f in enumerate(found)
    ]
    evaluator = COCOeval(coco, coco.loadRes(json.loads(json.dumps({"r": results}))["r"]), "keypoints")
    evaluator.params.kpt_oks_sigmas = sigmas
    evaluator.evaluate()
    np.testing.assert_allclose(object_keypoint_similarity(truth, areas, found, sigmas), evaluator.ious[1, 1].T)


def test_no_person_and_no_prediction():
    none, one = np.zeros((0, 2, 3)), np.ones((1, 2, 3))
    sigmas = np.array([0.1, 0.1])
    assert matched(none, np.zeros(0), np.zeros(0), one, np.zeros(1), sigmas).shape == (0, 2, 2)
    assert np.isnan(matched(one, np.zeros(1), np.ones(1), none, np.zeros(0), sigmas)).all()


def test_sizes_of_a_person():
    skeleton = Skeleton(("left_shoulder", "right_hip", "head", "neck"))
    person = np.array([[[0.0, 0, 2], [30, 40, 1], [0, -20, 2], [0, -8, 2]]])
    assert reference_sizes(person, np.zeros((1, 4)), skeleton, "torso").tolist() == [50]
    assert reference_sizes(person, np.array([[1.0, 2, 31, 12]]), skeleton, "box").tolist() == [30]
    assert head_sizes(person, skeleton).tolist() == [12]
    person[0, 3, :2] = person[0, 2, :2]
    assert np.isnan(head_sizes(person, skeleton)).all()  # both at one place
    assert has_torso(skeleton) and not has_torso(Skeleton(("left_shoulder", "left_hip", "tip")))
    assert np.isnan(head_sizes(person, Skeleton(("a", "b", "c", "d")))).all()


def test_crowd_index_by_hand():
    joints = np.array([[[1, 1, 2], [2, 2, 2]], [[3, 3, 2], [9, 9, 0]], [[3, 50, 1], [60, 60, 1]]], np.float64)
    boxes = np.array([[0, 0, 4, 4], [0, 0, 9, 9], [50, 50, 70, 70]], np.float64)
    assert crowd_index(Crowd(boxes, joints)) == pytest.approx((1 / 2 + 2 / 1 + 0) / 3)
    assert crowd_index(Crowd(np.zeros((0, 4)), np.zeros((0, 2, 3)))) == 0.0


def test_crowd_index_is_the_one_that_crowdpose_gives(shared_data: Path):
    for file in (
        "metrics-reference/crowdpose/example_crowdpose_val.json",
        "pose-samples/crowdpose/test_crowdpose.json",
    ):
        truth = json.loads((shared_data / file).read_text())
        for image in truth["images"]:
            listed = [e for e in truth["annotations"] if e["image_id"] == image["id"]]
            boxes = np.array([e["bbox"] for e in listed], np.float64)
            boxes[:, 2:] += boxes[:, :2]
            joints = np.array([e["keypoints"] for e in listed]).reshape(-1, 14, 3)
            assert round(crowd_index(Crowd(boxes, joints)), 2) == image["crowdIndex"]
