"""Segmentation's numbers against counting by hand, pixel by pixel, and against how the field's scripts define them."""

import json

import numpy as np
import pytest
from scipy import ndimage

from stages.metrics import bootstrap
from stages.metrics.boundaries import boundaries, boundary_width_px
from stages.metrics.cityscapes import LABEL_IDS, are_classes, label_ids, result_name
from stages.metrics.segmentation import IGNORED, Prediction, SegmentationMetric, Target

CLASSES = ("sky", "road", "car", "pole")


def random_maps(seed, size=(24, 31), num_classes=3, ignored=0.1):
    """Blobs of classes, and a prediction that is right for about half of the pixels; `pole` is never there."""
    rng = np.random.default_rng(seed)
    truth = ndimage.zoom(rng.integers(0, num_classes, (4, 5)), (size[0] / 4, size[1] / 5), order=0).astype(np.uint8)
    predicted = np.where(rng.random(size) < 0.5, truth, rng.integers(0, num_classes, size)).astype(np.uint8)
    return np.where(rng.random(size) < ignored, IGNORED, truth).astype(np.uint8), predicted


def metric_of(pairs, classes=CLASSES):
    metric = SegmentationMetric(classes)
    for i, (truth, predicted) in enumerate(pairs):
        key = f"{i:02d}"
        metric.update([Prediction(key, predicted, np.zeros(len(classes), np.float32))], [Target(key, truth)])
    return metric


def by_hand(pairs, C):
    """Every number by loops over pixels and classes, of its definition."""
    confusion = [[0] * (C + 1) for _ in range(C)]
    for truth, predicted in pairs:
        for t, p in zip(truth.ravel().tolist(), predicted.ravel().tolist(), strict=True):
            if t != IGNORED:
                confusion[t][C if p == IGNORED else p] += 1
    rows = [sum(row) for row in confusion]
    columns = [sum(confusion[t][p] for t in range(C)) for p in range(C)]
    unions = [rows[k] + columns[k] - confusion[k][k] for k in range(C)]
    ious = {k: confusion[k][k] / unions[k] for k in range(C) if unions[k]}
    accuracies = [confusion[k][k] / rows[k] for k in range(C) if rows[k]]
    total = sum(rows)
    return {
        "miou": sum(ious.values()) / len(ious),
        "pixel_accuracy": sum(confusion[k][k] for k in range(C)) / total,
        "mean_accuracy": sum(accuracies) / len(accuracies),
        "fwiou": sum(rows[k] * ious.get(k, 0) for k in range(C)) / total,
        "confusion": confusion,
        "ious": ious,
    }


@pytest.mark.parametrize("seed", range(4))
def test_numbers_are_those_counted_by_hand(seed):
    pairs = [random_maps(10 * seed + i) for i in range(3)]
    pairs[0][1][3, 4:9] = IGNORED  # given none of the classes
    found, expected = metric_of(pairs).compute(), by_hand(pairs, len(CLASSES))
    for name in ("miou", "pixel_accuracy", "mean_accuracy", "fwiou"):
        assert found[name] == pytest.approx(expected[name], abs=1e-12), name
    assert found["confusion"] == expected["confusion"]
    for k, name in enumerate(CLASSES):
        assert found["per_class"][name]["iou"] == pytest.approx(expected["ious"].get(k))
    assert found["per_class"]["pole"] == {"iou": None, "boundary_iou": None, "accuracy": None, "num_truth": 0}
    json.dumps(found, allow_nan=False)


def test_a_small_case_on_paper():
    truth = np.array([[0, 0, 1], [0, 1, IGNORED]], np.uint8)
    predicted = np.array([[0, 1, 1], [0, 2, 2]], np.uint8)
    found = metric_of([(truth, predicted)]).compute()
    assert [found["per_class"][name]["iou"] for name in CLASSES] == [2 / 3, 1 / 3, 0.0, None]
    assert found["miou"] == pytest.approx((2 / 3 + 1 / 3 + 0) / 3), "a class that is only predicted counts, with 0"
    assert found["pixel_accuracy"] == 3 / 5 and found["mean_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found["fwiou"] == pytest.approx(3 / 5 * 2 / 3 + 2 / 5 * 1 / 3)


def published_boundary(mask, dilation_ratio=0.02):
    """mask_to_boundary of the paper's authors, with scipy's erosion in the place of OpenCV's."""
    dilation = max(1, round(dilation_ratio * np.sqrt(mask.shape[0] ** 2 + mask.shape[1] ** 2)))
    padded = np.pad(mask, 1)
    # OpenCV's erosion takes what lies beyond the padded image for set.
    eroded = ndimage.binary_erosion(padded, np.ones((3, 3)), iterations=dilation, border_value=1)
    return mask & ~eroded[1:-1, 1:-1]


@pytest.mark.parametrize("size", [(24, 31), (90, 120), (5, 4)])
def test_boundary_iou_is_that_of_each_class_alone(size):
    pairs = [random_maps(i, size, ignored=0.02) for i in range(2)]
    pairs = [(truth, ndimage.median_filter(predicted, 5)) for truth, predicted in pairs]
    found = metric_of(pairs).compute()["per_class"]
    for k, name in enumerate(CLASSES[:3]):
        common = union = 0
        for truth, predicted in pairs:
            seen = np.where(truth == IGNORED, IGNORED, predicted)
            a, b = published_boundary(truth == k), published_boundary(seen == k)
            common, union = common + (a & b).sum(), union + (a | b).sum()
        assert found[name]["boundary_iou"] == (pytest.approx(common / union) if union else None)


def test_boundary_regions_follow_the_size_of_the_image():
    assert [boundary_width_px(h, w) for h, w in ((1024, 2048), (360, 480), (10, 10))] == [46, 12, 1]
    classes = np.zeros((20, 20), np.uint8)
    classes[:, 10:] = 1
    inner = boundaries(classes)[1:-1, 1:-1]
    assert inner[:, 8:10].all() and not inner[:, :8].any() and not inner[:, 10:].any()


def test_a_shift_costs_boundaries_more_than_areas():
    truth = np.zeros((200, 200), np.uint8)
    truth[50:150, 50:150] = 1
    found = metric_of([(truth, np.roll(truth, 3, axis=1))]).compute()
    assert found["miou"] > 0.94 and found["boundary_miou"] < 0.8


def test_parts_merge_to_the_same_numbers_and_a_key_counts_once():
    pairs = [random_maps(i, size=(20 + i, 30)) for i in range(5)]
    whole = metric_of(pairs)
    first, second = whole.part(["03", "01"]), whole.part(["00", "01", "02", "04"])
    first.merge(second)
    assert first.compute() == whole.compute() and first.keys == whole.keys
    assert whole.per_image() == {**first.per_image()}
    other = SegmentationMetric(CLASSES)
    other.update([Prediction("00", pairs[1][1], np.zeros(4))], [Target("00", pairs[1][0])])
    with pytest.raises(ValueError, match="image 00 came twice with different targets"):
        whole.merge(other)


def test_maps_come_back_and_per_image_is_the_image_alone():
    pairs = [random_maps(i) for i in range(3)]
    metric = metric_of(pairs)
    for key, (truth, predicted) in zip(metric.keys, pairs, strict=True):
        found, true = metric.samples[key].maps()
        np.testing.assert_array_equal(found, predicted)
        np.testing.assert_array_equal(true, truth)
        assert metric.per_image()[key] == pytest.approx(metric.part([key]).compute()["miou"])
    assert metric.worst(2) == sorted(metric.keys, key=metric.per_image().__getitem__)[:2]


def test_an_image_without_labels_is_neither_good_nor_bad():
    pairs = [random_maps(0), (np.full((24, 31), IGNORED, np.uint8), random_maps(1)[1])]
    both, one = metric_of(pairs), metric_of(pairs[:1])
    assert both.compute()["miou"] == one.compute()["miou"]
    assert both.per_image()["01"] == 1.0
    nothing = both.part(["01"]).compute()
    assert nothing["miou"] is None and nothing["pixel_accuracy"] is None and nothing["boundary_miou"] is None


def test_a_resample_is_a_dataset_in_which_images_stand_several_times():
    pairs = [random_maps(i) for i in range(4)]
    metric = metric_of(pairs)
    weights = np.array([[1, 1, 1, 1], [2, 0, 1, 1], [0, 0, 4, 0]])
    found = metric.resampled().resample(weights)
    for row, counts in enumerate(weights):
        repeated = [pair for pair, count in zip(pairs, counts, strict=True) for _ in range(count)]
        expected = metric_of(repeated).compute()
        for name, values in found.items():
            assert values[row] == pytest.approx(expected[name], abs=1e-12), name
    by_class = {name: bootstrap.value_of(each)["miou"] for name, each in metric.by_class().items()}
    assert by_class == pytest.approx({name: metric.compute()["per_class"][name]["iou"] for name in CLASSES[:3]})
    interval = bootstrap.compare({"after": metric.resampled()}, 200, 0.95, 0)["after"]["miou"]
    assert interval["low"] < interval["value"] < interval["high"]
    assert interval["value"] == pytest.approx(metric.compute()["miou"])


@pytest.mark.parametrize(
    ("prediction", "target", "message"),
    [
        (np.zeros((2, 2)), np.zeros((2, 3)), r"has shape \(2, 2\), its target \(2, 3\)"),
        (np.full((2, 2), 4), np.zeros((2, 2)), "prediction of image k: class 4, but the 4 classes"),
        (np.zeros((2, 2)), np.full((2, 2), 9), "target of image k: class 9"),
    ],
)
def test_what_does_not_fit_is_named(prediction, target, message):
    with pytest.raises(ValueError, match=message):
        SegmentationMetric(CLASSES).update(
            [Prediction("k", prediction.astype(np.uint8), np.zeros(4))], [Target("k", target.astype(np.uint8))]
        )


def test_no_image_and_wrong_keys_are_errors():
    with pytest.raises(ValueError, match="no image was evaluated"):
        SegmentationMetric(CLASSES).compute()
    empty = np.zeros((2, 2), np.uint8)
    with pytest.raises(ValueError, match="came with the target of b"):
        SegmentationMetric(CLASSES).update([Prediction("a", empty, np.zeros(4))], [Target("b", empty)])
    with pytest.raises(ValueError, match="not finite"):
        SegmentationMetric(CLASSES).update([Prediction("a", empty, np.full(4, np.nan))], [Target("a", empty)])


def test_cityscapes_numbers():
    """Three of the published table, and the name by which the script finds a result."""
    assert (LABEL_IDS["road"], LABEL_IDS["train"], LABEL_IDS["bicycle"], len(LABEL_IDS)) == (7, 31, 33, 19)
    names = sorted(LABEL_IDS)
    assert are_classes(names) and not are_classes(names[1:])
    assert label_ids(np.array([[names.index("car"), IGNORED]], np.uint8), names).tolist() == [[26, 0]]
    source = "leftImg8bit/val/lindau/lindau_000000_000019_leftImg8bit.png"
    assert result_name(source) == "lindau_000000_000019_pred_labelIds.png"
