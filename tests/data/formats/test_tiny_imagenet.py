"""stages/data/formats/tiny_imagenet.py."""

from collections import Counter
from pathlib import Path

import pytest

from stages.data.formats.tiny_imagenet import read
from stages.data.records import Record, Rejected


def make(
    root: Path, annotations: str = "val_0.JPEG\tn00000001\t0\t0\t1\t1\nval_1.JPEG\tn00000002\t0\t0\t1\t1\n"
) -> Path:
    for wnid in ("n00000001", "n00000002"):
        (root / "train" / wnid / "images").mkdir(parents=True)
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t1\t1\n")
        (root / "train" / wnid / "images" / f"{wnid}_0.JPEG").write_bytes(b"")
    (root / "val" / "images").mkdir(parents=True)
    for n in (0, 1, 2):
        (root / "val" / "images" / f"val_{n}.JPEG").write_bytes(b"")
    (root / "val" / "val_annotations.txt").write_text(annotations)
    (root / "wnids.txt").write_text("n00000002\nn00000001\n")
    (root / "words.txt").write_text("n00000001\tone, first\nn00000002\ttwo\nn00000003\tthree\n")
    return root


def test_the_genuine_layout(shared_data: Path):
    root = shared_data / "tiny-imagenet"
    source = read(root)
    records = list(source.records())
    assert Counter(item.split for item in records) == {"train": 3000, "val": 1000}
    assert set(Counter((item.split, item.labels) for item in records).values()) == {75, 25}
    assert list(source.classes) == sorted((root / "wnids.txt").read_text().split())
    assert source.classes["n01443537"] == "goldfish"
    assert source.notes == ()
    truth = dict(line.split("\t")[:2] for line in (root / "val" / "val_annotations.txt").read_text().splitlines())
    val = {Path(item.path).name: item.labels[0] for item in records if item.split == "val"}
    assert val == truth


def test_words_of_other_classes_are_left_out(tmp_path: Path):
    assert read(make(tmp_path)).classes == {"n00000001": "one", "n00000002": "two"}


def test_an_image_that_the_list_lacks_is_reported(tmp_path: Path):
    items = list(read(make(tmp_path)).records())
    (lost,) = (item for item in items if isinstance(item, Rejected))
    assert lost.path == "val/images/val_2.JPEG"
    assert "without a label" in lost.reason
    assert sum(isinstance(item, Record) for item in items) == 4


def test_test_has_no_labels_and_is_said_once(tmp_path: Path):
    root = make(tmp_path)
    (root / "test" / "images").mkdir(parents=True)
    for n in range(3):
        (root / "test" / "images" / f"test_{n}.JPEG").write_bytes(b"")
    source = read(root)
    assert source.notes == ("the 3 images of test have no labels: left out",)
    assert not any(item.path.startswith("test/") for item in source.records())


def test_val_without_its_list_is_refused(tmp_path: Path):
    root = make(tmp_path)
    (root / "val" / "val_annotations.txt").unlink()
    with pytest.raises(ValueError, match=r"val_annotations\.txt is missing"):
        read(root)


def test_without_words_the_wnid_is_the_title(tmp_path: Path):
    root = make(tmp_path)
    (root / "words.txt").unlink()
    assert read(root).classes == {"n00000001": "n00000001", "n00000002": "n00000002"}
