"""stages/data/formats/imagefolder.py."""

from collections import Counter
from pathlib import Path

import pytest

from stages.data.formats.imagefolder import read
from stages.data.records import Record, Rejected


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")
    return root


def labelled(root: Path) -> dict[str, tuple[str | None, str]]:
    return {item.path: (item.split, *item.labels) for item in read(root).records() if isinstance(item, Record)}


def rejected(root: Path) -> dict[str, str]:
    return {item.path: item.reason for item in read(root).records() if isinstance(item, Rejected)}


def test_clothing_as_it_is_published(shared_data: Path):
    source = read(shared_data / "clothing-small")
    records = list(source.records())
    assert Counter(item.split for item in records) == {"train": 250, "val": 100, "test": 100}
    names = ["dress", "hat", "longsleeve", "outwear", "pants", "shirt", "shoes", "shorts", "skirt", "t-shirt"]
    assert list(source.classes) == names == list(source.classes.values())
    assert set(Counter(item.labels for item in records).values()) == {45}
    assert source.task == "classification"
    assert source.notes == ()
    assert all(item.boxes is None for item in records)


def test_without_splits(tmp_path: Path):
    touch(tmp_path, "cat/1.jpg", "cat/deep/er/2.PNG", "dog/1.webp", "dog/2.tiff")
    assert labelled(tmp_path) == {
        "cat/1.jpg": (None, "cat"),
        "cat/deep/er/2.PNG": (None, "cat"),
        "dog/1.webp": (None, "dog"),
        "dog/2.tiff": (None, "dog"),
    }


def test_splits_by_any_of_their_names(tmp_path: Path):
    touch(tmp_path, "Train/cat/1.jpg", "valid/cat/1.jpg", "VALIDATION/dog/1.jpg", "test/owl/1.jpg")
    assert labelled(tmp_path) == {
        "Train/cat/1.jpg": ("train", "cat"),
        "VALIDATION/dog/1.jpg": ("val", "dog"),
        "test/owl/1.jpg": ("test", "owl"),
        "valid/cat/1.jpg": ("val", "cat"),
    }
    assert list(read(tmp_path).classes) == ["cat", "dog", "owl"]


def test_a_class_may_be_called_train(tmp_path: Path):
    touch(tmp_path, "bus/1.jpg", "train/1.jpg")
    assert labelled(tmp_path) == {"bus/1.jpg": (None, "bus"), "train/1.jpg": (None, "train")}


def test_strays_are_reported_and_descriptions_are_not(tmp_path: Path):
    touch(tmp_path, "train/cat/1.jpg", "train/cat/notes.txt", "train/loose.jpg", "loose.jpg", "other/x/1.jpg")
    touch(tmp_path, "LICENSE", "README.md", "classes.txt", "train/labels.csv", "weights.pt", "train/cat/.hidden")
    assert rejected(tmp_path) == {
        "loose.jpg": "image outside a class folder",
        "other/x/1.jpg": "image outside the split folders train",
        "train/cat/notes.txt": "not an image file",
        "train/loose.jpg": "image outside a class folder",
        "weights.pt": "not an image file",
    }


def test_an_empty_class_folder_is_no_class(tmp_path: Path):
    touch(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg", "train/owl/readme.txt")
    source = read(tmp_path)
    assert list(source.classes) == ["cat", "dog"]
    assert source.notes == ("class folder train/owl holds no image",)


def test_one_class_looks_like_the_wrong_folder(tmp_path: Path):
    touch(tmp_path, "download/train/cat/1.jpg", "download/train/dog/1.jpg")
    assert "'download' is the only class" in read(tmp_path).notes[0]


def test_a_link_out_is_reported_and_the_rest_goes_on(tmp_path: Path):
    touch(tmp_path / "out", "x.jpg")
    root = touch(tmp_path / "root", "cat/1.jpg", "dog/1.jpg")
    (root / "cat" / "2.jpg").symlink_to(tmp_path / "out" / "x.jpg")
    (root / "owl").symlink_to(tmp_path / "out")
    assert set(labelled(root)) == {"cat/1.jpg", "dog/1.jpg"}
    assert set(rejected(root)) == {"cat/2.jpg", "owl"}


def test_images_without_class_folders_are_not_this_format(tmp_path: Path):
    touch(tmp_path, "1.jpg", "2.jpg")
    with pytest.raises(ValueError, match="CLASS/IMAGE"):
        read(tmp_path)


def test_records_are_lazy_and_bytes_are_never_read(tmp_path: Path):
    touch(tmp_path, "cat/1.jpg", "dog/1.jpg")
    records = read(tmp_path).records()
    assert next(records).path == "cat/1.jpg"
    (tmp_path / "dog" / "1.jpg").chmod(0)
    assert next(records).path == "dog/1.jpg"
