"""Detection numbers against published answers (COCO API, 100 VOC images) and by hand."""

import json
from collections import defaultdict

import numpy as np
import pytest
from defusedxml import ElementTree

from stages.data.formats import open_source
from stages.data.records import Record
from stages.metrics.detection import DetectionMetric, Prediction, Target

PUBLISHED = {
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": "APs",
    "ap_medium": "APm",
    "ap_large": "APl",
    "ar1": "AR1",
    "ar10": "AR10",
    "ar100": "AR100",
    "ar_small": "ARs",
    "ar_medium": "ARm",
    "ar_large": "ARl",
}


def target(key, boxes=(), labels=(), crowd=None, areas=None):
    return Target(
        key,
        100,
        80,
        np.array(boxes, float).reshape(-1, 4),
        np.array(labels, int),
        np.array(crowd if crowd is not None else [False] * len(labels), bool),
        None if areas is None else np.array(areas, float),
    )


def prediction(key, boxes=(), scores=(), labels=()):
    return Prediction(key, np.array(boxes, float).reshape(-1, 4), np.array(scores, float), np.array(labels, int))


def measured(class_names, pairs, **options):
    metric = DetectionMetric(class_names, **options)
    metric.update(*zip(*pairs, strict=True))
    return metric


def by_image(annotations):
    grouped = defaultdict(list)
    for annotation in annotations:
        grouped[annotation["image_id"]].append(annotation)
    return grouped


def xyxy(annotation):
    x, y, width, height = annotation["bbox"]
    return [x, y, x + width, y + height]


def coco_targets(dataset, name_of, classes):
    """Targets by name_of(image), labels by place of the category's name in classes."""
    label_of = {c["id"]: classes.index(c["name"]) for c in dataset["categories"]}
    grouped = by_image(dataset["annotations"])
    return {
        name_of(image): target(
            name_of(image),
            [xyxy(a) for a in grouped[image["id"]]],
            [label_of[a["category_id"]] for a in grouped[image["id"]]],
            [a["iscrowd"] for a in grouped[image["id"]]],
            [a["area"] for a in grouped[image["id"]]],
        )
        for image in dataset["images"]
    }


def voc_targets(folder, classes):
    targets = {}
    for file in sorted(folder.glob("*.xml")):
        objects = ElementTree.parse(file).findall("object")
        boxes = [[float(o.findtext(f"bndbox/{e}")) for e in ("xmin", "ymin", "xmax", "ymax")] for o in objects]
        targets[file.stem] = target(file.stem, boxes, [classes.index(o.findtext("name")) for o in objects])
    return targets


@pytest.fixture(scope="module")
def coco_metric(shared_data):
    folder = shared_data / "metrics-reference/coco-detection"
    dataset = json.loads((folder / "instances_val2014_100.json").read_text())
    results = by_image(json.loads((folder / "instances_val2014_fakebbox100_results.json").read_text()))
    classes = [c["name"] for c in dataset["categories"]]
    label_of = {c["id"]: i for i, c in enumerate(dataset["categories"])}
    targets = coco_targets(dataset, lambda image: f"{image['id']:012}", classes)
    pairs = [
        (
            prediction(
                key,
                [xyxy(r) for r in results[int(key)]],
                [r["score"] for r in results[int(key)]],
                [label_of[r["category_id"]] for r in results[int(key)]],
            ),
            truth,
        )
        for key, truth in targets.items()
    ]
    return measured(classes, pairs)


def test_equals_the_answers_published_with_the_coco_api(coco_metric, shared_data):
    expected = json.loads((shared_data / "metrics-reference/coco-detection/expected.json").read_text())["bbox"]
    result = coco_metric.compute()
    assert {name: result[name] for name in PUBLISHED} == {
        name: pytest.approx(expected[published], abs=1e-9) for name, published in PUBLISHED.items()
    }


def test_per_class_means_and_curves_agree_with_the_whole(coco_metric):
    result = coco_metric.compute()
    per_class, curves = result["per_class"].values(), result["precision_recall"]["per_class"]
    assert np.mean([c["ap"] for c in per_class if c["ap"] is not None]) == pytest.approx(result["ap"], abs=1e-12)
    assert np.mean([c["ap50"] for c in per_class if c["ap50"] is not None]) == pytest.approx(result["ap50"], abs=1e-12)
    for name, scores in result["per_class"].items():
        assert (curves[name] is None) == (scores["ap"] is None) == (scores["num_truth"] == 0)
        if curves[name]:
            assert np.mean(curves[name]["iou_50"]) == pytest.approx(scores["ap50"])
            assert np.mean(curves[name]["iou_50_95"]) == pytest.approx(scores["ap"])


def voc100_published(folder, classes, targets):
    """Asserts that the detections of voc100-multiformat score as published against targets by image name."""
    published = json.loads((folder / "expected.json").read_text())
    detections = json.loads((folder / "dets/coco_format/coco_dets.json").read_text())
    # The class order of the detections differs from the order in the truth: names decide.
    label_of = {c["id"]: classes.index(c["name"]) for c in detections["categories"]}
    names = {image["id"]: image["file_name"].removesuffix(".jpg") for image in detections["images"]}
    found = defaultdict(list)
    for d in detections["annotations"]:
        found[names[d["image_id"]]].append(d)
    pairs = [
        (
            prediction(
                key,
                [xyxy(d) for d in found[key]],
                [d["score"] for d in found[key]],
                [label_of[d["category_id"]] for d in found[key]],
            ),
            truth,
        )
        for key, truth in targets.items()
    ]
    result = measured(classes, pairs).compute()
    assert result["num_images"] == published["images"]
    assert sum(c["num_truth"] for c in result["per_class"].values()) == published["ground_truths"]
    assert {name: result[name] for name in PUBLISHED} == {
        name: pytest.approx(published["coco_style_bbox"][coco], abs=published["tolerance"])
        for name, coco in PUBLISHED.items()
    }


@pytest.mark.parametrize("form", ["coco_format_v1", "coco_format_v2", "pascalvoc_format"])
def test_same_published_answer_from_every_format(form, shared_data):
    folder = shared_data / "voc100-multiformat"
    classes = sorted((folder / "voc.names").read_text().split())
    if form == "pascalvoc_format":
        targets = voc_targets(folder / "gts" / form, classes)
    else:
        dataset = json.loads(next((folder / "gts" / form).glob("*.json")).read_text())
        targets = coco_targets(dataset, lambda image: image["file_name"].removesuffix(".jpg"), classes)
    voc100_published(folder, classes, targets)


@pytest.mark.parametrize(
    ("fmt", "form"),
    [("coco", "coco_format_v1"), ("coco", "coco_format_v2"), ("voc", "pascalvoc_format"), ("voc", "imagenet_format")],
)
def test_same_published_answer_through_our_readers(fmt, form, shared_data):
    folder = shared_data / "voc100-multiformat"
    source = open_source(fmt, folder / "gts" / form, folder / "images")
    classes, targets = list(source.classes), {}
    for record in source.records():
        assert isinstance(record, Record)
        key, labels = record.path.removesuffix(".jpg"), [classes.index(box.label) for box in record.boxes]
        targets[key] = target(key, [box.xyxy for box in record.boxes], labels)
    voc100_published(folder, classes, targets)


def test_by_hand():
    # One of two boxes found with IoU 0.8 (ap: 7 of 10 thresholds), one false alarm with a lower score.
    metric = measured(
        ["cell", "dust"],
        [
            (
                prediction("a", [[0, 0, 10, 8], [50, 50, 60, 60]], [0.9, 0.4], [0, 0]),
                target("a", [[0, 0, 10, 10], [30, 30, 40, 40]], [0, 0]),
            ),
            (prediction("b"), target("b")),
        ],
    )
    result = metric.compute()
    assert result["ap50"] == pytest.approx(51 / 101)
    assert result["ap"] == pytest.approx(51 / 101 * 0.7)
    assert result["ar100"] == pytest.approx(0.5 * 0.7)
    assert result["mean_iou"] == pytest.approx(0.8)
    assert result["num_matched"] == 1
    assert result["ap_large"] is None
    assert result["per_class"]["dust"] == {"ap": None, "ap50": None, "num_truth": 0}
    # a: one hit, one found above 0.5, two to find; b: nothing to find and nothing found.
    assert metric.per_image() == {"a": pytest.approx(2 / 3), "b": 1.0}
    assert metric.worst(1) == ["a"]
    json.dumps(result, allow_nan=False)


def test_mean_iou_looks_at_hits_over_the_score_threshold_only():
    pair = (
        prediction("a", [[0, 0, 10, 8], [20, 0, 30, 6], [40, 0, 50, 4]], [0.9, 0.4, 0.9], [0, 0, 0]),
        target("a", [[40, 0, 50, 10], [20, 0, 30, 10], [0, 0, 10, 10]], [0, 0, 0]),
    )
    assert measured(["cell"], [pair]).compute()["mean_iou"] == pytest.approx(0.8)
    assert measured(["cell"], [pair], score_threshold=0.1).compute()["mean_iou"] == pytest.approx(0.7)


def test_a_second_detection_of_an_object_is_a_false_alarm():
    truth = target("a", [[0, 0, 10, 10], [50, 50, 60, 60]], [0, 0])
    made = prediction("a", [[0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60]], [0.9, 0.8, 0.7], [0, 0, 0])
    metric = measured(["cell"], [(made, truth)])
    assert metric.compute()["ap"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert metric.per_image() == {"a": pytest.approx(4 / 5)}


def test_crowds_are_neither_right_nor_wrong():
    pair = (
        prediction("a", [[0, 0, 10, 10], [50, 0, 60, 10]], [0.9, 0.95], [0, 0]),
        target("a", [[0, 0, 10, 10], [40, 0, 100, 80]], [0, 0], crowd=[False, True]),
    )
    metric = measured(["cell"], [pair])
    assert metric.compute()["ap"] == pytest.approx(1.0)
    assert metric.compute()["per_class"]["cell"]["num_truth"] == 1
    assert metric.per_image() == {"a": 1.0}


def test_the_target_s_own_area_decides_the_size():
    boxes = [[0, 0, 50, 50]]
    pairs = [(prediction("a", boxes, [0.9], [0]), target("a", boxes, [0]))]
    assert measured(["cell"], pairs).compute()["ap_medium"] == pytest.approx(1.0)
    pairs = [(prediction("a", boxes, [0.9], [0]), target("a", boxes, [0], areas=[900]))]
    result = measured(["cell"], pairs).compute()
    assert result["ap_small"] == pytest.approx(1.0)
    assert result["ap_medium"] is None


def test_no_truth_and_no_detection_give_null(capsys):
    result = measured(["cell"], [(prediction("a"), target("a"))]).compute()
    assert [result[name] for name in PUBLISHED] == [None] * 12
    assert result["mean_iou"] is None
    assert capsys.readouterr().out == ""


def test_order_and_merging_change_nothing(coco_metric):
    parts = [DetectionMetric(coco_metric.class_names) for _ in range(2)]
    for i, key in enumerate(np.random.default_rng(0).permutation(sorted(coco_metric.samples))):
        made, truth = coco_metric.samples[key]
        parts[i % 2].update([made], [truth])
    parts[0].merge(parts[1])
    parts[0].merge(DetectionMetric(coco_metric.class_names))
    assert json.dumps(parts[0].compute()) == json.dumps(coco_metric.compute())


def test_new_images_renew_the_numbers():
    boxes = [[0, 0, 10, 10]]
    metric = measured(["cell"], [(prediction("a", boxes, [0.9], [0]), target("a", boxes, [0]))])
    assert metric.compute()["ap"] == pytest.approx(1.0)
    metric.update([prediction("b")], [target("b", boxes, [0])])
    assert metric.compute()["ap"] == pytest.approx(51 / 101)


def test_results_are_a_coco_result_list():
    metric = measured(
        ["cell", "dust"], [(prediction("a", [[1, 2, 11, 22]], [0.5], [1]), target("a", [[0, 0, 2, 3]], [0]))]
    )
    assert metric.results() == [{"image_id": 1, "category_id": 2, "bbox": [1.0, 2.0, 10.0, 20.0], "score": 0.5}]
    truth = metric.ground_truth()
    assert truth["images"] == [{"id": 1, "file_name": "a", "width": 100, "height": 80}]
    assert truth["annotations"] == [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0.0, 0.0, 2.0, 3.0], "area": 6.0, "iscrowd": 0}
    ]


@pytest.mark.parametrize(
    ("made", "truth", "message"),
    [
        (prediction("x"), target("y"), "image x came with the target of y"),
        (prediction("x", [[0, 0, 1, np.nan]], [1], [0]), target("x"), "image x.*not finite"),
        (prediction("x", [[0, 0, 1, 1]], [1, 1], [0]), target("x"), "image x.*shapes"),
        (prediction("x", [[0, 0, 1, 1]], [1], [1]), target("x"), "image x: labels from 1 to 1"),
        (prediction("x"), target("x", [[0, 0, 1, 1]], [-1]), "image x: labels from -1 to -1"),
    ],
)
def test_bad_input_names_the_image(made, truth, message):
    with pytest.raises(ValueError, match=message):
        DetectionMetric(["cell"]).update([made], [truth])


def test_a_repeated_key_counts_once_and_a_contradiction_is_an_error():
    pair = (prediction("a", [[0, 0, 10, 10]], [0.9], [0]), target("a", [[0, 0, 10, 10]], [0]))
    metric = measured(["cell"], [pair, pair])
    assert metric.compute()["num_images"] == 1
    with pytest.raises(ValueError, match="image a came twice"):
        metric.update([pair[0]], [target("a", [[0, 0, 10, 11]], [0])])


def test_no_images_is_an_error():
    with pytest.raises(ValueError, match="no image was evaluated"):
        DetectionMetric(["cell"]).compute()
