"""Each planted fault is found by its own check and by no other, with its severity and the right sample."""

import json
from dataclasses import asdict, replace

import pytest

from stages.data import facts, suites
from stages.data.checks import counted, stopping_lines
from stages.params.dataset import ValidationParams

CLASSES = ["cat", "dog", "emu"]


@pytest.fixture(scope="module")
def expectations():
    """The module that imports Great Expectations, which takes seconds."""
    from stages.data import expectations

    return expectations


@pytest.fixture(scope="module")
def judge(expectations, index_table):
    def run(rows, task, pages=None, classes=CLASSES, **params):
        params = ValidationParams(**params)
        rules = suites.rules_for(task, "pets", classes, params)
        return expectations.check(facts.tables(index_table(rows), task, classes, params), rules, "pets", pages)

    return run


def failing(checks):
    return {check.name: check for check in checks if check.status == "failed"}


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation"])
def test_sound_data_pass(judge, sample_rows, task):
    checks = judge(sample_rows(task), task)
    assert counted(checks) == {"passed": len(checks) - 1, "critical": 0, "warnings": 0, "skipped": 1}
    assert [check.observed for check in checks if check.status == "skipped"] == ["one batch only"]
    assert not stopping_lines(checks)


def set_row(number, **changes):
    def plant(rows, box):
        rows[number] |= changes

    return plant


def set_box(number, *xyxy, label="cat"):
    def plant(rows, box):
        rows[number]["objects"] = [box(label, *xyxy)]

    return plant


def copy_bytes(source, *targets):
    def plant(rows, box):
        for target in targets:
            rows[target] |= {"sha256": rows[source]["sha256"]}

    return plant


def copy_looks(source, *targets):
    def plant(rows, box):
        for target in targets:
            rows[target] |= {"phash": f"{int(rows[source]['phash'], 16) ^ 1:016x}"}

    return plant


def set_all(**changes):
    def plant(rows, box):
        for row in rows:
            row |= changes

    return plant


def repeat_key(rows, box):
    rows[9]["key"] = rows[3]["key"]


def vanish(rows, box):
    """No emu in train."""
    for row in rows[::3]:
        row["labels"] = [label.replace("emu", "cat") for label in row["labels"]]


# Faults of different checks, planted at once: each must be found by its own check alone, in its own sample.
CLASSIFICATION = [
    (repeat_key, "unique keys", "2 of 60 samples share a key, first: train images/0003.jpg (key {key})"),
    (set_row(4, sha256=None), "hashed", "1 of 60 samples have no sha256, first: val images/0004.jpg (sha256 )"),
    (
        set_row(5, split="holdout"),
        "known split",
        "1 of 60 samples are in an unknown split, first: holdout images/0005.jpg",
    ),
    (
        set_row(6, width=5, height=60),
        "smallest side",
        "1 of 60 images are too small, first: train images/0006.jpg (shorter_px 5)",
    ),
    (set_row(7, width=30000, height=9000), "largest side", "1 of 60 images are too large, first: val images/0007.jpg"),
    (
        set_row(10, width=1000, height=10),
        "aspect",
        "1 of 60 images are too narrow, first: val images/0010.jpg (aspect 100)",
    ),
    (
        set_row(8, labels=[]),
        "labelled",
        "1 of 60 images do not have one label, first: test images/0008.jpg (num_labels 0)",
    ),
    (vanish, "every class in train", "1 of 3 classes occur less than 1 times in train, first: emu (0 in train)"),
    (
        set_row(12, labels=["cow"]),
        "known labels",
        "1 of 59 labels are not in dataset.yaml, first: train images/0012.jpg ('cow')",
    ),
    (
        copy_bytes(0, 13),
        "no leak",
        "1 of 40 val and test images are train images, too, first: val images/0013.jpg, like train",
    ),
]
WARNINGS = [
    (
        copy_bytes(0, 3),
        "no copies",
        "2 of 60 images occur more than once in their split, first: train images/0000.jpg (copies 2)",
    ),
    (
        copy_looks(0, 4, 5, 7),
        "no look-alikes",
        "3 of 40 val and test images look like a train image, first: val images/0004",
    ),
    (
        set_all(defects=["cut off"]),
        "no defects",
        "60 of 60 samples have defects, first: train images/0000.jpg (defects cut off)",
    ),
]
SECOND = [
    (
        set_row(6, width=0, height=0),
        "smallest side",
        "1 of 60 images are too small, first: train images/0006.jpg (shorter_px 0)",
    ),
    (
        set_row(8, labels=["cat", "dog"]),
        "labelled",
        "1 of 60 images do not have one label, first: test images/0008.jpg",
    ),
    (
        copy_bytes(0, 11),
        "no leak",
        "1 of 40 val and test images are train images, too, first: test images/0011.jpg, like train",
    ),
]
DETECTION = [
    (
        set_row(12, objects=None),
        "annotated",
        "1 of 60 images were never annotated with boxes, first: train images/0012.jpg",
    ),
    (
        set_box(15, 1, 1, 9, 9, label="cow"),
        "known labels",
        "1 of 59 labels are not in dataset.yaml, first: train images/0015.jpg cow",
    ),
    (
        set_box(13, 9, 1, 9, 9),
        "positive width",
        "1 of 59 boxes have no positive width, first: val images/0013.jpg cat (9, 1, 9, 9)",
    ),
    (
        set_box(16, 1, 9, 9, 5),
        "positive height",
        "1 of 59 boxes have no positive height, first: val images/0016.jpg cat (1, 9, 9, 5)",
    ),
    (
        set_box(14, 600, 5, 640.5, 9),
        "inside the image",
        "1 of 59 boxes reach outside their image, first: test images/0014.jpg cat (600, 5, 640.5, 9) in 640x480",
    ),
]
LEFT = [
    (
        set_box(14, -1, 5, 40, 9),
        "inside the image",
        "1 of 60 boxes reach outside their image, first: test images/0014.jpg cat (-1",
    )
]
SEGMENTATION = [
    (
        set_row(13, mask_labels=None, mask_pixels=None),
        "masked",
        "1 of 60 images have no mask, first: val images/0013.jpg (unlabelled ",
    ),
    (
        set_row(12, mask_labels=["cow"], mask_pixels=[200_000]),
        "known labels",
        "1 of 59 labels are not in dataset.yaml, first: train images/0012.jpg ('cow')",
    ),
]
MASK_WARNINGS = [
    (
        lambda rows, box: [row.update(mask_pixels=[20_000]) for row in rows[:9]],
        "labelled pixels",
        "9 of 60 masks leave over 50 % of their image open, first: train images/0000.jpg (unlabelled 0.93",
    )
]


@pytest.mark.parametrize(
    ("task", "faults", "severity"),
    [
        ("classification", CLASSIFICATION, "critical"),
        ("classification", WARNINGS, "warning"),
        ("classification", SECOND, "critical"),
        ("detection", DETECTION, "critical"),
        ("detection", LEFT, "critical"),
        ("segmentation", SEGMENTATION, "critical"),
        ("segmentation", MASK_WARNINGS, "warning"),
    ],
)
def test_faults_are_found_each_by_its_own_check(judge, sample_rows, sample_box, task, faults, severity):
    rows = sample_rows(task)
    for plant, _, _ in faults:
        plant(rows, sample_box)
    checks = judge(rows, task)
    found = failing(checks)
    assert set(found) == {name for _, name, _ in faults}
    for _, name, fault in faults:
        assert found[name].fault.startswith(fault.format(key=rows[3]["key"]))
        assert found[name].severity == severity
    assert len(stopping_lines(checks)) == (len(faults) if severity == "critical" else 0)


def test_too_little_data(judge, sample_rows):
    assert failing(judge(sample_rows("detection")[:5], "detection")).keys() >= {"enough samples"}
    empty = judge([], "detection")
    assert failing(empty).keys() == {"enough samples", "every class in train"}
    assert failing(empty)["enough samples"].fault == "only 0 samples, not 10"


def test_no_train_split(judge, sample_rows):
    rows = [row | {"split": "test"} for row in sample_rows("classification")]
    found = failing(judge(rows, "classification", min_train_per_class=0))
    assert list(found) == ["train split"] and found["train split"].observed == "missing: train"


def test_a_rare_class_warns(judge, sample_rows):
    rows = [row | {"labels": ["cat"]} for row in sample_rows("classification")]
    rows[0]["labels"], rows[3]["labels"] = ["dog"], ["emu"]
    found = failing(judge(rows, "classification", max_imbalance=17))
    assert list(found) == ["balance"] and "first: dog (1 in train)" in found["balance"].fault


def test_a_batch_that_is_different_warns(judge, sample_rows):
    rows = [
        row | {"batch": 1 + (i >= 30), "width": 640 + 640 * (i >= 30)} for i, row in enumerate(sample_rows("detection"))
    ]
    found = failing(judge(rows, "detection"))
    assert list(found) == ["no drift"] and found["no drift"].severity == "warning"
    assert "width (distance 1.00" in found["no drift"].fault


@pytest.mark.parametrize(
    ("plant", "params"),
    [
        (set_box(14, 600, 5, 640.5, 9), {"box_tolerance_px": 0.5}),
        (copy_bytes(0, 1), {"max_leaked": 0.025}),
        (copy_bytes(0, 1, 2, 4, 5, 7, 8), {"max_leaked": 1.0, "max_exact_duplicates": 1.0}),
        (copy_bytes(0, 3), {"max_exact_duplicates": 0.04}),
        (set_all(defects=["tail cut off"]), {"max_defects": 1.0}),
    ],
)
def test_thresholds_let_through_what_they_say(judge, sample_rows, sample_box, plant, params):
    rows = sample_rows("detection")
    plant(rows, sample_box)
    assert not failing(judge(rows, "detection", **params))


def test_labels_of_an_image_may_be_several(judge, sample_rows):
    rows = [row | {"labels": ["cat", "dog"][: 1 + i % 2]} for i, row in enumerate(sample_rows("classification"))]
    assert not failing(judge(rows, "classification", classes=["cat", "dog"], max_labels_per_image=2))


def test_all_are_counted_and_twenty_are_listed(judge, sample_rows):
    rows = [row | {"labels": ["cow"]} for row in sample_rows("classification")]
    check = failing(judge(rows, "classification"))["known labels"]
    assert (check.num_offending, check.num_checked, len(check.offending)) == (60, 60, 20)
    assert check.offending[0] == {"label": "cow", "key": rows[0]["key"], "source": "images/0000.jpg", "split": "train"}


def test_the_same_data_give_the_same_json(judge, sample_rows, sample_box):
    rows = sample_rows("detection")
    rows[4]["objects"] = [sample_box("cat", float("nan"), 0, 5, 5)]
    texts = [json.dumps([asdict(c) for c in judge(r, "detection")], allow_nan=False) for r in (rows, rows[::-1])]
    assert texts[0] == texts[1]


def test_what_can_not_be_evaluated_is_no_result(expectations, index_table, sample_rows):
    rules = suites.rules_for("detection", "pets", CLASSES, ValidationParams())
    tables = facts.tables(index_table(sample_rows("detection")), "detection", CLASSES, ValidationParams())
    broken = replace(rules[-1], table="boxes")
    with pytest.raises(RuntimeError, match="'no drift' could not be evaluated"):
        expectations.check(tables, [broken], "pets")


def test_pages_name_what_is_wrong(judge, sample_rows, sample_box, tmp_path):
    rows = sample_rows("detection")
    rows[5]["objects"] = [sample_box("cat", 0, 0, 700, 9)]
    judge(rows, "detection", pages=tmp_path / "pages")
    (page,) = (tmp_path / "pages" / "validations" / "pets-boxes").glob("**/*.html")
    text = page.read_text()
    assert "each box lies inside its image" in text and "images/0005.jpg" in text
    assert (tmp_path / "pages" / "index.html").is_file()
