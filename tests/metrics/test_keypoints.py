"""OKS AP against published answers, PCK by hand, and what a state over images keeps."""

import json
from pathlib import Path

import numpy as np
import pytest

from stages.metrics.bootstrap import value_of
from stages.metrics.keypoints import KeypointMetric, Prediction, Target
from stages.params.skeleton import Skeleton

# Shoulders, hips and a head: the torso from one shoulder to the other side's hip is 50 px long.
BODY = Skeleton(("left_shoulder", "right_shoulder", "left_hip", "right_hip", "neck", "head_top"))
PERSON = np.array([[30, 0, 2], [0, 0, 2], [30, 40, 2], [0, 40, 1], [15, -5, 2], [15, -25, 2]], np.float64)
PUBLISHED = {
    "coco-keypoints": {
        "AP": "ap", "AP50": "ap50", "AP75": "ap75", "APm": "ap_medium", "APl": "ap_large",
        "AR": "ar", "AR50": "ar50", "AR75": "ar75", "ARm": "ar_medium", "ARl": "ar_large",
    },
    "crowdpose": {
        "AP": "ap", "AP50": "ap50", "AP75": "ap75", "AR": "ar", "AR50": "ar50", "AR75": "ar75",
        "AP_easy": "ap_crowd_easy", "AP_medium": "ap_crowd_medium", "AP_hard": "ap_crowd_hard",
    },
}  # fmt: skip


def target(key: str, *persons: np.ndarray, labels=None, crowd=(), areas=None, joints: int = 6) -> Target:
    keypoints = np.array(persons, np.float64).reshape(-1, joints, 3)
    low, high = keypoints[..., :2].min(1, initial=1e9), keypoints[..., :2].max(1, initial=-1e9)
    count = len(keypoints)
    labels = np.array(labels if labels is not None else [0] * count, np.int64)
    is_crowd = np.array([i in crowd for i in range(count)], bool)
    boxes = np.hstack([low, high]).reshape(-1, 4)
    return Target(key, 200, 200, boxes, labels, is_crowd, areas, keypoints=keypoints)


def found(key: str, *persons: np.ndarray, scores=None, labels=None, joints: int = 6) -> Prediction:
    keypoints = np.array(persons, np.float64).reshape(-1, joints, 3)
    count = len(keypoints)
    scores = np.array(scores if scores is not None else np.linspace(0.9, 0.6, count))
    return Prediction(
        key, np.zeros((count, 4)), scores, np.array(labels if labels is not None else [0] * count, np.int64), keypoints
    )


def moved(person: np.ndarray, *, by: float, joints: slice = slice(None)) -> np.ndarray:
    shifted = person.copy()
    shifted[joints, 0] += by
    return shifted


def metric(*pairs: tuple[Prediction, Target], classes=("person",), **settings) -> KeypointMetric:
    made = KeypointMetric(classes, BODY, **settings)
    made.update([prediction for prediction, _ in pairs], [target for _, target in pairs])
    return made


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_answers(name: str, shared_data: Path):
    folder = shared_data / "metrics-reference" / name
    expected = json.loads((folder / "expected.json").read_text())
    truth, results = (json.loads((folder / expected[key]).read_text()) for key in ("ground_truth", "results"))
    skeleton = Skeleton(tuple(truth["categories"][0]["keypoints"]))
    if isinstance(expected["sigmas"], list):
        assert list(skeleton.sigmas) == expected["sigmas"]
    made, K = KeypointMetric(("person",), skeleton), len(skeleton)
    for image in truth["images"]:
        listed, seen = (
            [e for e in entries if e["image_id"] == image["id"]] for entries in (truth["annotations"], results)
        )
        boxes = np.array([e["bbox"] for e in listed], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        key, count = f"{image['id']:012}", len(seen)
        truths, guesses = (
            np.array([e["keypoints"] for e in es], np.float64).reshape(-1, K, 3) for es in (listed, seen)
        )
        areas = np.array([e["area"] for e in listed]) if "area" in listed[0] else None  # CrowdPose has none
        crowds, nobody = np.array([bool(e["iscrowd"]) for e in listed]), np.zeros(len(listed), int)
        scores = np.array([e["score"] for e in seen])
        made.update(
            [Prediction(key, np.zeros((count, 4)), scores, np.zeros(count, int), guesses)],
            [Target(key, image["width"], image["height"], boxes, nobody, crowds, areas, keypoints=truths)],
        )
    numbers = made.compute()
    published = expected.get("keypoints") or expected["keypoints_crowd"]
    assert published.keys() == PUBLISHED[name].keys()
    for key, value in published.items():
        digits = 4 if key in ("AP_easy", "AP_medium", "AP_hard") else None  # rounded where they come from
        ours = numbers[PUBLISHED[name][key]]
        assert (round(ours, digits) if digits else ours) == pytest.approx(
            value, abs=expected.get("tolerance", 1e-12)
        ), key
    assert value_of(made.resampled())["ap"] == pytest.approx(numbers["ap"])


def test_what_is_written_gives_the_same_with_pycocotools_alone():
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(0)
    pairs = []
    for i in range(8):
        persons = [PERSON + np.append(rng.uniform(0, 100, 2), 0) for _ in range(i % 3)]
        guesses = [p + np.append(rng.normal(0, 2 * (i % 4), 2), 0) for p in persons] + [PERSON] * (i % 2)
        pairs.append((found(f"{i}", *guesses), target(f"{i}", *persons)))
    made = metric(*pairs)
    coco = COCO()
    coco.dataset = made.ground_truth()
    coco.createIndex()
    evaluator = COCOeval(coco, coco.loadRes(made.results()), "keypoints")
    evaluator.params.kpt_oks_sigmas = np.array(BODY.sigmas)
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    numbers = made.compute()
    assert numbers["ap"] == pytest.approx(evaluator.stats[0]) and 0 < numbers["ap"] < 1
    assert numbers["ar_large"] == (pytest.approx(evaluator.stats[9]) if evaluator.stats[9] >= 0 else None)


def test_pck_by_hand():
    half = moved(PERSON, by=10.0, joints=slice(0, 3))  # at 0.2 of 50 px: just near enough
    far = moved(PERSON, by=10.1, joints=slice(0, 3))
    assert metric((found("a", half), target("a", PERSON))).compute()["pck"] == 1.0
    numbers = metric((found("a", far), target("a", PERSON))).compute()
    assert numbers["pck"] == 0.5
    assert numbers["per_joint"]["left_shoulder"] == {"pck": 0.0, "pckh": 0.0, "num_truth": 1}
    assert numbers["per_joint"]["right_hip"]["pck"] == 1.0
    # The head segment is 20 px long: half of it is 10.
    assert numbers["pckh"] == 0.5 and metric((found("a", half), target("a", PERSON))).compute()["pckh"] == 1.0
    by_box = metric((found("a", far), target("a", PERSON)), reference="box").compute()
    assert (by_box["pck"], by_box["pck_reference"]) == (1.0, "box")  # 0.2 of 65 px


def test_a_torso_is_measured_from_either_shoulder_and_not_without():
    one_side, no_torso = PERSON.copy(), PERSON.copy()
    one_side[[0, 3], 2] = 0
    no_torso[2:4, 2] = 0
    numbers = metric(
        (found("a", one_side), target("a", one_side)), (found("b", PERSON), target("b", no_torso))
    ).compute()
    assert (numbers["pck"], numbers["num_unmeasured"], numbers["num_persons"]) == (1.0, 1, 2)
    assert numbers["per_joint"]["left_shoulder"]["num_truth"] == 0
    alone = metric((found("b", PERSON), target("b", no_torso))).compute()
    assert alone["pck"] is None and alone["pckh"] == 1.0


def test_unlabelled_joints_do_not_count_wherever_they_lie():
    blind = PERSON.copy()
    blind[4:] = [-5000, -5000, 0]
    numbers = metric((found("a", PERSON), target("a", blind, areas=np.array([1000.0])))).compute()
    assert (numbers["pck"], numbers["ap"]) == (1.0, pytest.approx(1.0))
    assert numbers["per_joint"]["head_top"]["num_truth"] == 0 and numbers["pckh"] is None


def test_each_person_gets_the_prediction_most_like_it():
    other = moved(PERSON, by=100)
    numbers = metric((found("a", other, PERSON), target("a", PERSON, other))).compute()
    assert numbers["pck"] == 1.0 and numbers["ap"] == pytest.approx(1.0)
    once = metric((found("a", PERSON), target("a", PERSON, other))).compute()
    assert once["pck"] == 0.5 and once["ar"] == pytest.approx(0.5)


def test_another_class_is_nobody():
    pair = (found("a", PERSON, labels=[1]), target("a", PERSON, labels=[0]))
    numbers = metric(pair, classes=("man", "horse")).compute()
    assert numbers["ap"] == 0.0 and numbers["pck"] == 0.0
    assert list(numbers["per_class"]) == ["man"]  # nobody labelled a horse's joints


def test_a_crowd_is_neither_right_nor_wrong():
    crowd = np.zeros((6, 3))
    crowd[:, :2] = PERSON[:, :2] + [100, 0]
    pair = (found("a", PERSON, moved(PERSON, by=100), scores=[0.6, 0.9]), target("a", PERSON, crowd, crowd=(1,)))
    assert metric(pair).compute()["ap"] == pytest.approx(1.0)
    assert metric(pair).per_image() == {"a": 1.0}
    wrong = (pair[0], target("a", PERSON))
    assert metric(wrong).compute()["ap"] == pytest.approx(0.5)


def test_an_empty_image_and_an_image_where_nobody_is_found():
    made = metric((found("a"), target("a")), (found("b"), target("b", PERSON)), (found("c", PERSON), target("c")))
    assert made.per_image() == {"a": 1.0, "b": 0.0, "c": 0.0}
    assert made.compute()["ap"] == 0.0
    by_pck = metric((found("a"), target("a")), (found("b"), target("b", PERSON)), by="pck")
    assert by_pck.per_image() == {"a": 1.0, "b": 0.0} and by_pck.worst(1) == ["b"]
    nothing = metric((found("a"), target("a"))).compute()
    assert nothing["ap"] is None and nothing["pck"] is None and nothing["per_class"] == {}


def test_order_merging_and_parts():
    pairs = [(found(k, moved(PERSON, by=4.0 * i)), target(k, PERSON)) for i, k in enumerate("abcd")]
    whole, first, second = metric(*pairs), metric(*pairs[:1:-1]), metric(*pairs[1::-1])
    first.merge(second)
    assert first.compute() == whole.compute()
    assert whole.part(["a", "b"]).compute() == metric(*pairs[:2]).compute()


def test_resampling_weighs_images():
    pairs = [(found(k, moved(PERSON, by=40.0 * i)), target(k, PERSON)) for i, k in enumerate("ab")]
    values = metric(*pairs).resampled().resample(np.array([[1, 1], [2, 0], [0, 2], [3, 1]]))
    assert values["pck"].tolist() == [0.5, 1.0, 0.0, 0.75]
    assert values["ap"][1] == pytest.approx(1.0) and values["ap"][2] == 0.0
    assert set(values) == {"ap", "ap50", "pck", "pckh"}
    assert set(metric(*pairs).by_class()) == {"person"}


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        (found("b", PERSON), "prediction of image b came with the target of a"),
        (found("a", PERSON * np.nan), "not finite; did the training diverge"),
        (found("a", PERSON, labels=[3]), "labels from 3 to 3, but the 1 classes count from 0"),
        (found("a", PERSON[:3], joints=3), r"must be .*\[N, 6, 3\] for keypoints"),
    ],
)
def test_what_does_not_fit_is_named(prediction: Prediction, message: str):
    with pytest.raises(ValueError, match=message):
        metric((prediction, target("a", PERSON)))


def test_nothing_measured_and_a_target_that_changes():
    with pytest.raises(ValueError, match="no image was evaluated"):
        metric().compute()
    with pytest.raises(ValueError, match="came twice with different targets"):
        metric((found("a"), target("a", PERSON)), (found("a"), target("a", moved(PERSON, by=1))))
