"""Derived tables against values read off hand-made rows."""

import math

import numpy as np
import pytest

from stages.data import facts
from stages.params.dataset import ValidationParams

CLASSES = ["cat", "dog", "emu"]


@pytest.fixture
def derive(index_table):
    """Tables of rows; `params` are those of the dataset's entry."""

    def run(rows, task="detection", **params):
        return facts.tables(index_table(rows), task, CLASSES, ValidationParams(**params))

    return run


def test_samples_have_their_shape_and_the_order_of_their_paths(derive, sample_rows):
    rows = sample_rows("classification", 3)[::-1]
    rows[0] |= {"width": 100, "height": 400, "defects": ["a", "b"]}
    samples = derive(rows, "classification")["samples"]
    assert samples["source"].tolist() == ["images/0000.jpg", "images/0001.jpg", "images/0002.jpg"]
    last = samples.iloc[2]
    assert (last["shorter_px"], last["longer_px"], last["aspect"], last["defects"]) == (100, 400, 4.0, "a; b")
    assert samples["num_boxes"].isna().all() and samples["defects"].isna().sum() == 2
    assert samples["num_labels"].tolist() == [1, 1, 1]


def test_boxes_keep_their_image_and_how_far_they_reach_out(derive, sample_rows, sample_box):
    rows = sample_rows("detection", 3)
    rows[0]["objects"] = []
    rows[1]["objects"] = [sample_box("cat", 0, 0, 640, 480), sample_box("dog", -3, 10, 20, 490)]
    rows[2]["objects"] = [sample_box("emu", 100, 50, 90, 60)]
    boxes = derive(rows)["boxes"]
    assert boxes["source"].tolist() == ["images/0001.jpg"] * 2 + ["images/0002.jpg"]
    assert boxes["label"].tolist() == ["cat", "dog", "emu"]
    assert boxes["outside_px"].tolist() == [0, 10, 0]
    assert boxes["box_width"].tolist() == [640, 23, -10]


@pytest.mark.parametrize("edge", [math.nan, math.inf, -math.inf])
def test_a_box_without_finite_edges_has_no_size(derive, sample_rows, sample_box, edge):
    rows = sample_rows("detection", 3)
    rows[0]["objects"] = [sample_box("cat", 1, edge, 20, 30)]
    assert derive(rows)["boxes"]["box_height"][0] == 0


def test_leaks_and_look_alikes_name_the_train_image(derive, sample_rows):
    rows = sample_rows("classification", 6)
    rows[4]["sha256"] = rows[0]["sha256"]
    rows[5]["phash"] = f"{int(rows[3]['phash'], 16) ^ 0b1011:016x}"
    held_out = derive(rows, "classification", near_duplicate_bits=3)["held_out"].set_index("source")
    assert held_out["leaked_from"].dropna().to_dict() == {"images/0004.jpg": "images/0000.jpg"}
    assert held_out["looks_like"].dropna().to_dict() == {"images/0005.jpg": "images/0003.jpg"}
    assert held_out["differing_bits"]["images/0005.jpg"] == 3
    assert derive(rows, "classification", near_duplicate_bits=2)["held_out"]["looks_like"].isna().all()


def test_copies_within_a_split_are_counted(derive, sample_rows):
    rows = sample_rows("classification", 9)
    for i in (3, 6, 7):  # 0, 3, 6: train; 7: val
        rows[i]["sha256"] = rows[0]["sha256"]
    assert derive(rows, "classification")["samples"]["copies"].tolist() == [3, 1, 1, 3, 1, 1, 3, 1, 1]


def test_classes_count_what_the_task_is_about(derive, sample_rows, sample_box):
    rows = sample_rows("detection", 6)
    for row in rows:
        row |= {"objects": [sample_box("cat", 0, 0, 9, 9), sample_box("cat", 0, 0, 9, 9)], "labels": ["emu"]}
    rows[0]["objects"].append(sample_box("dog", 0, 0, 9, 9))
    classes = derive(rows)["classes"].set_index("class")
    assert classes["train"].to_dict() == {"cat": 4, "dog": 1, "emu": 0}
    assert classes["rarity"].to_dict() == pytest.approx({"cat": 1, "dog": 4, "emu": math.nan}, nan_ok=True)
    assert derive(rows, "classification")["classes"].set_index("class")["train"]["emu"] == 2


def test_one_batch_has_no_drift_and_no_rows_no_tables(derive, sample_rows):
    assert derive(sample_rows("detection"))["drift"].empty
    for task in ("classification", "detection", "segmentation"):
        assert all(table.empty for name, table in derive([], task).items() if name not in ("classes", "pixels"))


def crowded(sample_rows, sample_box, seed, newest_labels):
    """200 images of 30 boxes that all have one label and one size, drawn for the image; a quarter is batch 2."""
    rng = np.random.default_rng(seed)
    made = sample_rows("detection", 200, seed=seed)
    for row in made:
        row["batch"] = int(rng.integers(4)) // 3 + 1
        label = rng.choice(newest_labels if row["batch"] == 2 else CLASSES)
        side = rng.uniform(20, 300)
        row["objects"] = [sample_box(label, 0, 0, side, side)] * 30
    return made


@pytest.mark.parametrize("seed", range(8))
def test_boxes_of_one_image_are_not_taken_for_independent(derive, sample_rows, sample_box, seed):
    drift = derive(crowded(sample_rows, sample_box, seed, CLASSES))["drift"]
    assert len(drift) == 6 and not drift["significant_distance"].any()


def test_a_batch_of_one_class_is_drift_of_the_label_alone(derive, sample_rows, sample_box):
    drift = derive(crowded(sample_rows, sample_box, 0, ["emu"]))["drift"].set_index("quantity")
    assert drift.index[drift["significant_distance"] > 0.1].tolist() == ["label of a box"]


def test_larger_images_are_drift_of_their_size(derive, sample_rows):
    rows = sample_rows("classification", 120)
    for row in rows[80:]:
        row |= {"batch": 2, "width": 1280, "height": 960}
    drift = derive(rows, "classification")["drift"].set_index("quantity")
    assert drift.index[drift["significant_distance"] > 0.1].tolist() == ["width", "height"]


def test_rows_in_another_order_give_the_same_tables(derive, sample_rows):
    rows = sample_rows("detection")
    for one, other in zip(derive(rows).values(), derive(rows[::-1]).values(), strict=True):
        assert one.equals(other)


def test_masks_are_told_by_label_pixels_and_what_they_leave_open(derive, sample_rows):
    rows = sample_rows("segmentation", 6)  # 0, 3: train; 1, 4: val; 2, 5: test; 0 to 2 cats, 3 to 5 dogs
    rows[0] |= {"mask_labels": ["cat", "dog"], "mask_pixels": [307_200 // 4, 307_200 // 2]}
    rows[1] |= {"mask_labels": [], "mask_pixels": []}
    rows[2] |= {"mask_labels": None, "mask_pixels": None}
    tables = derive(rows, "segmentation")
    unlabelled = tables["samples"]["unlabelled"].tolist()
    assert (
        unlabelled[:2] == [0.25, 1.0] and math.isnan(unlabelled[2]) and unlabelled[3] == pytest.approx(0.349, abs=1e-3)
    )
    segments = tables["segments"]
    assert segments["source"].tolist()[:2] == ["images/0000.jpg"] * 2
    assert segments["label"].tolist() == ["cat", "dog", "dog", "dog", "dog"]
    classes, pixels = (tables[name].set_index("class") for name in ("classes", "pixels"))
    assert classes.loc["dog", ["train", "val", "test"]].tolist() == [2, 1, 1]
    assert pixels.loc["cat", ["train", "val", "test"]].tolist() == [76_800, 0, 0]
    assert classes.loc["cat", "rarity"] == (153_600 + 200_000) / 76_800 and math.isnan(classes.loc["emu", "rarity"])


def test_pixels_that_change_class_are_a_drift(derive, sample_rows):
    rows = sample_rows("segmentation", 400)
    for i, row in enumerate(rows):
        row["batch"] = 1 + (i >= 200)
        row |= {"mask_labels": ["cat", "dog"], "mask_pixels": [100, 900] if i < 200 else [500, 500]}
    drift = derive(rows, "segmentation")["drift"].set_index("quantity")
    assert drift.loc["label of a pixel", "significant_distance"] == pytest.approx(0.4, abs=0.12)
    assert drift.loc["unlabelled share", "distance"] == 0
    same = [row | {"mask_pixels": [100, 900]} for row in rows]
    assert derive(same, "segmentation")["drift"]["significant_distance"].max() == 0
