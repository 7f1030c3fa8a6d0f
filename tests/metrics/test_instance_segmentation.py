"""Numbers of masks against the published answers of the COCO API, and by hand."""

import contextlib
import io
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from stages.data import run_lengths
from stages.metrics import bootstrap
from stages.metrics.coco import STATS
from stages.metrics.instance_segmentation import InstanceSegmentationMetric, Prediction, Target

PUBLISHED = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
SIZE = (80, 100)


def rectangle(x1: int, y1: int, x2: int, y2: int) -> dict[str, Any]:
    return run_lengths.of_box((x1, y1, x2, y2), *SIZE)


def target(key: str, *boxes: tuple[int, int, int, int], labels: Any = None, crowd: Any = None) -> Target:
    """Objects that fill their boxes."""
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    labels = np.zeros(len(boxes), int) if labels is None else np.array(labels)
    is_crowd = np.zeros(len(boxes), bool) if crowd is None else np.array(crowd, bool)
    return Target(key, SIZE[1], SIZE[0], corners, labels, is_crowd, areas, tuple(rectangle(*box) for box in boxes))


def prediction(key: str, *found: tuple[float, tuple[int, ...], tuple[int, ...]]) -> Prediction:
    """Score, box, and the box that the mask fills; all of class 0."""
    corners = np.array([box for _, box, _ in found], np.float32).reshape(-1, 4)
    scores = np.array([score for score, _, _ in found], np.float32)
    return Prediction(key, corners, scores, np.zeros(len(found), int), tuple(rectangle(*m) for _, _, m in found))


def measured(*pairs: tuple[Prediction, Target], classes: tuple[str, ...] = ("cell",)) -> InstanceSegmentationMetric:
    metric = InstanceSegmentationMetric(classes)
    metric.update(*map(list, zip(*pairs, strict=True)))
    return metric


def rle_of(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    """As pycocotools' annToRLE, in the text form."""
    if isinstance(segmentation, list):
        segmentation = coco.merge(coco.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        segmentation = coco.frPyObjects(segmentation, height, width)
    counts = segmentation["counts"]
    return {"size": [height, width], "counts": counts.decode() if isinstance(counts, bytes) else counts}


def xyxy(bbox: list[float]) -> list[float]:
    return [bbox[0], bbox[1], bbox[0] + bbox[2], bbox[1] + bbox[3]]


@pytest.fixture(scope="module")
def published(shared_data: Path) -> InstanceSegmentationMetric:
    folder = shared_data / "metrics-reference/coco-detection"
    dataset = json.loads((folder / "instances_val2014_100.json").read_text())
    label_of = {c["id"]: i for i, c in enumerate(dataset["categories"])}
    truth, found = defaultdict(list), defaultdict(list)
    for annotation in dataset["annotations"]:
        truth[annotation["image_id"]].append(annotation)
    for result in json.loads((folder / "instances_val2014_fakesegm100_results.json").read_text()):
        found[result["image_id"]].append(result)
    metric = InstanceSegmentationMetric([c["name"] for c in dataset["categories"]])
    for image in dataset["images"]:
        key, size = f"{image['id']:012}", (image["height"], image["width"])
        there, made = truth[image["id"]], found[image["id"]]
        outlines = tuple(rle_of(r["segmentation"], *size) for r in made)
        wanted = Target(
            key, size[1], size[0],
            np.array([xyxy(a["bbox"]) for a in there], float).reshape(-1, 4),
            np.array([label_of[a["category_id"]] for a in there], int),
            np.array([a["iscrowd"] for a in there], bool),
            np.array([a["area"] for a in there], float),
            tuple(rle_of(a["segmentation"], *size) for a in there),
        )  # fmt: skip
        boxes = np.array([run_lengths.box_xyxy(m) for m in outlines], float).reshape(-1, 4)
        scores = np.array([r["score"] for r in made], float)
        labels = np.array([label_of[r["category_id"]] for r in made], int)
        metric.update([Prediction(key, boxes, scores, labels, outlines)], [wanted])
    return metric


def test_equals_the_answers_published_with_the_coco_api(
    published: InstanceSegmentationMetric, shared_data: Path
) -> None:
    expected = json.loads((shared_data / "metrics-reference/coco-detection/expected.json").read_text())
    result = published.compute()
    for name, theirs in zip(STATS, PUBLISHED, strict=True):
        assert result[f"mask_{name}"] == pytest.approx(expected["segm"][theirs], abs=expected["tolerance"])


def test_files_score_the_same_with_the_official_tool(published: InstanceSegmentationMetric, tmp_path: Path) -> None:
    """ground_truth.json and the two result files, read by pycocotools itself."""
    (tmp_path / "truth.json").write_text(json.dumps(published.masks.ground_truth()))
    result = published.compute()
    for iou_type, state, prefix in (("segm", published.masks, "mask_"), ("bbox", published.boxes, "")):
        (tmp_path / "results.json").write_text(json.dumps(state.results()))
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(str(tmp_path / "truth.json"))
            evaluator = COCOeval(truth, truth.loadRes(str(tmp_path / "results.json")), iou_type)
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.summarize()
        assert [result[prefix + name] for name in STATS] == evaluator.stats.tolist()


def test_resampled_once_each_gives_the_numbers_themselves(published: InstanceSegmentationMetric) -> None:
    values, result = bootstrap.value_of(published.resampled()), published.compute()
    assert set(values) == {"mask_ap", "mask_ap50", "ap", "ap50"}
    assert all(values[name] == pytest.approx(result[name], abs=1e-12) for name in values)
    for name, of_class in published.by_class().items():
        assert bootstrap.value_of(of_class)["mask_ap"] == pytest.approx(result["per_class"][name]["mask_ap"], abs=1e-12)


def test_order_merging_and_parts(published: InstanceSegmentationMetric) -> None:
    keys = sorted(published.samples)
    first, second = published.part(keys[60:]), published.part(keys[:60][::-1])
    first.merge(second)
    first.merge(published.part(keys[:3]))  # again: a key counts once
    assert json.dumps(first.compute()) == json.dumps(published.compute())
    assert set(second.per_image()) == set(keys[:60])


def test_masks_and_boxes_by_hand() -> None:
    # The boxes are right to the pixel, one mask covers 0.8 of its object: 7 of 10 thresholds.
    metric = measured(
        (
            prediction("a", (0.9, (0, 0, 10, 10), (0, 0, 10, 8)), (0.4, (50, 50, 60, 60), (50, 50, 60, 60))),
            target("a", (0, 0, 10, 10), (30, 30, 40, 40)),
        ),
        (prediction("b"), target("b")),
        classes=("cell", "dust"),
    )
    result = metric.compute()
    assert result["ap"] == result["ap50"] == result["mask_ap50"] == pytest.approx(51 / 101)
    assert result["mask_ap"] == pytest.approx(51 / 101 * 0.7)
    assert (result["mask_mean_iou"], result["mean_iou"]) == (pytest.approx(0.8), pytest.approx(1.0))
    assert (result["num_images"], result["mask_num_matched"], result["num_matched"]) == (2, 1, 1)
    nothing = {"mask_ap": None, "mask_ap50": None, "ap": None, "ap50": None, "num_truth": 0}
    assert result["per_class"]["dust"] == nothing
    assert metric.per_image() == {"a": pytest.approx(2 / 3), "b": 1.0}
    assert metric.worst(1) == ["a"]
    json.dumps(result, allow_nan=False)


def test_a_crowd_is_neither_right_nor_wrong() -> None:
    truth = target("a", (0, 0, 10, 10), (40, 0, 100, 80), crowd=[False, True])
    found = prediction("a", (0.9, (0, 0, 10, 10), (0, 0, 10, 10)), (0.95, (50, 0, 60, 10), (50, 0, 60, 10)))
    result = measured((found, truth)).compute()
    assert result["mask_ap"] == result["ap"] == pytest.approx(1.0)
    assert result["per_class"]["cell"]["num_truth"] == 1


def test_an_empty_mask_is_a_miss_and_a_false_alarm() -> None:
    metric = measured((prediction("a", (0.9, (0, 0, 10, 10), (0, 0, 0, 0))), target("a", (0, 0, 10, 10))))
    assert metric.compute()["mask_ap"] == 0.0 and metric.compute()["ap"] == pytest.approx(1.0)
    assert metric.per_image() == {"a": 0.0}


def test_no_truth_and_no_detection_give_null() -> None:
    result = measured((prediction("a"), target("a"))).compute()
    assert [result[prefix + name] for prefix in ("mask_", "") for name in STATS] == [None] * 24


def test_masks_have_to_fit_boxes_and_image() -> None:
    made, truth = prediction("a", (0.9, (0, 0, 9, 9), (0, 0, 9, 9))), target("a", (0, 0, 9, 9))
    without = Prediction("a", made.boxes_xyxy, made.scores, made.labels)
    with pytest.raises(ValueError, match="prediction of image a: 0 masks for 1 boxes"):
        measured((without, truth))
    other = {"size": [100, 80], "counts": run_lengths.of_box((0, 0, 9, 9), 100, 80)["counts"]}
    wrong = Prediction("a", made.boxes_xyxy, made.scores, made.labels, (other,))
    with pytest.raises(
        ValueError, match=r"prediction of image a: a mask of size \[100, 80\], the image has \[80, 100\]"
    ):
        measured((wrong, truth))


def test_another_mask_under_the_same_key_is_an_error() -> None:
    metric = measured((prediction("a"), target("a", (0, 0, 9, 9))))
    changed = target("a", (0, 0, 9, 9))
    smaller = Target(**{**vars(changed), "masks": (rectangle(0, 0, 9, 8),)})
    with pytest.raises(ValueError, match="image a came twice"):
        metric.update([prediction("a")], [smaller])
