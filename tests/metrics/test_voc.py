"""Pascal VOC's average precision: the published answers, and cases by hand."""

import json

import numpy as np
import pytest

from stages.metrics import voc
from stages.metrics.detection import Prediction, Target

IOUS = ("0.1", "0.3", "0.5", "0.75")


def target(key, boxes=(), labels=None, crowd=None):
    labels = [0] * len(boxes) if labels is None else labels
    crowd = [False] * len(boxes) if crowd is None else crowd
    return Target(key, 200, 200, np.array(boxes, float).reshape(-1, 4), np.array(labels, int), np.array(crowd, bool))


def prediction(key, boxes=(), scores=(), labels=None):
    labels = [0] * len(boxes) if labels is None else labels
    return Prediction(key, np.array(boxes, float).reshape(-1, 4), np.array(scores, float), np.array(labels, int))


def read(file, num_columns):
    """Rows (confidence) left top width height of the sample's files, boxes as xyxy."""
    rows = [[float(v) for v in line.split()[1:]] for line in file.read_text().splitlines() if line.strip()]
    table = np.array(rows, float).reshape(-1, num_columns)
    table[:, -2:] += table[:, -4:-2]
    return table


@pytest.fixture(scope="module")
def sample(shared_data):
    folder = shared_data / "metrics-reference/voc-ap-sample"
    found, truth = [], []
    for file in sorted((folder / "groundtruths").glob("*.txt")):
        rows = read(folder / "detections" / file.name, 5)
        found.append(prediction(file.stem, rows[:, 1:], rows[:, 0]))
        truth.append(target(file.stem, read(file, 4)))
    return found, truth, json.loads((folder / "expected.json").read_text())


@pytest.mark.parametrize("interpolation", ["every_point", "eleven_point"])
@pytest.mark.parametrize("iou", IOUS)
def test_equals_the_published_answers(sample, interpolation, iou):
    found, truth, expected = sample
    value = voc.mean_average_precision(found, truth, 1, float(iou), interpolation)
    assert value == pytest.approx(expected[interpolation][iou], abs=1e-9)


def test_counts_equal_the_published_ones(sample):
    found, truth, expected = sample
    matches = voc.match(found, truth, 0, 0.3)
    assert {
        "ground_truths": matches.num_truth,
        "detections": len(matches.scores),
        "true_positives": int(matches.is_true.sum()),
        "false_positives": int((~matches.is_true).sum()),
    } == expected["counts_at_iou_0.3"]


def test_each_match_is_that_of_the_published_table(sample):
    # The sample's own table at IoU 0.3, best score first; of each image, how many of its detections are right.
    found, truth, _ = sample
    matches = voc.match(found, truth, 0, 0.3)
    assert (np.flatnonzero(matches.is_true) + 1).tolist() == [1, 3, 10, 12, 13, 14, 23]
    hits = {key: int(matches.of_image(key).sum()) for key in dict.fromkeys(matches.keys)}
    assert hits == {"00001": 1, "00002": 1, "00003": 2, "00004": 0, "00005": 2, "00006": 0, "00007": 1}


def test_by_hand():
    # Right, wrong, right of two boxes: precision 1 up to recall 0.5, then 2/3.
    truth = [target("a", [[0, 0, 9, 9], [50, 50, 59, 59]])]
    found = [prediction("a", [[0, 0, 9, 9], [100, 100, 110, 110], [50, 50, 59, 59]], [0.9, 0.8, 0.7])]
    matches = voc.match(found, truth, 0)
    assert matches.is_true.tolist() == [True, False, True]
    assert voc.average_precision(matches) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert voc.average_precision(matches, "eleven_point") == pytest.approx((6 + 5 * 2 / 3) / 11)


def test_a_box_is_found_once_and_the_best_box_judges():
    truth = [target("a", [[0, 0, 9, 9]])]
    found = [prediction("a", [[0, 0, 9, 8], [0, 0, 9, 9]], [0.5, 0.9])]
    assert voc.match(found, truth, 0).is_true.tolist() == [True, False]


def test_classes_and_images_are_kept_apart():
    truth = [target("a", [[0, 0, 9, 9]], [1]), target("b")]
    found = [prediction("a", [[0, 0, 9, 9]], [0.9], [0]), prediction("b", [[0, 0, 9, 9]], [0.8], [1])]
    assert voc.match(found, truth, 1).is_true.tolist() == [False]
    assert voc.mean_average_precision(found, truth, 2) == 0.0


def test_what_lies_on_a_difficult_box_does_not_count():
    truth = [target("a", [[0, 0, 9, 9], [30, 30, 39, 39]], crowd=[True, False])]
    found = [prediction("a", [[0, 0, 9, 9], [0, 0, 9, 9], [30, 30, 39, 39]], [0.9, 0.8, 0.7])]
    matches = voc.match(found, truth, 0)
    assert (matches.is_true.tolist(), matches.num_truth) == ([True], 1)
    assert voc.average_precision(matches) == 1.0


def test_nothing_found_and_nothing_there():
    assert voc.mean_average_precision([prediction("a")], [target("a", [[0, 0, 9, 9]])], 1) == 0.0
    assert voc.mean_average_precision([prediction("a", [[0, 0, 9, 9]], [0.9])], [target("a")], 1) is None


def test_a_pixel_is_a_box():
    # As in the development kit: from 3 to 3 is one pixel wide.
    truth, found = [target("a", [[3, 3, 3, 3]])], [prediction("a", [[3, 3, 3, 3]], [0.9])]
    assert voc.mean_average_precision(found, truth, 1, iou=1.0) == 1.0
