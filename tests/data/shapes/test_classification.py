"""ImageNet and ImageFolder layouts of drawn objects: real readers read them, and no shortcut solves them."""

from collections import Counter
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.data.formats import open_source
from stages.data.records import Record
from stages.data.shapes import write_imagefolder, write_imagenet
from stages.data.shapes.scenes import PRETRAINING_KINDS, UNSEEN_SHAPES


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    write_imagenet(folder / "imagenet", train_per_class=25, val_per_class=12, image_px=64, seed=0)
    write_imagefolder(folder / "imagefolder", 25, 1, 12, side_px=(64, 96), seed=0)
    return folder


def _records(fmt: str, folder: Path) -> list[Record]:
    records = list(open_source(fmt, folder).records())
    assert all(isinstance(record, Record) for record in records)
    return records


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_imagenet_reader_reads_it(drawn):
    source = open_source("imagenet", drawn / "imagenet")
    assert source.task == "classification" and len(source.classes) == 12
    assert source.classes["n90000001"] == "striped disc" and source.classes["n90000012"] == "marbled hexagon"
    counts = Counter((record.split, record.labels) for record in _records("imagenet", drawn / "imagenet"))
    assert counts == {(s, (wnid,)): n for s, n in (("train", 25), ("val", 12)) for wnid in source.classes}


def test_imagefolder_reader_reads_it(drawn):
    source = open_source("imagefolder", drawn / "imagefolder")
    assert source.task == "classification" and tuple(source.classes) == UNSEEN_SHAPES
    counts = Counter((record.split, record.labels) for record in _records("imagefolder", drawn / "imagefolder"))
    splits = {"train": 25, "val": 1, "test": 12}
    assert counts == {(split, (shape,)): n for split, n in splits.items() for shape in UNSEEN_SHAPES}


def test_sides_are_as_asked(drawn):
    sides = [Image.open(path).size for path in sorted((drawn / "imagefolder").rglob("*.jpg"))]
    assert min(map(min, sides)) >= 64 and max(map(max, sides)) <= 96 and len(set(sides)) > 50
    assert {Image.open(path).size for path in (drawn / "imagenet").rglob("*.JPEG")} == {(64, 64)}


@pytest.mark.parametrize("workers", [1, 2])
def test_bytes_do_not_depend_on_counts_or_processes(drawn, tmp_path, workers):
    write_imagenet(tmp_path / "few", train_per_class=5, val_per_class=1, image_px=64, seed=0, workers=workers)
    many, few = _tree(drawn / "imagenet"), _tree(tmp_path / "few")
    assert len(few) == 12 * 6 + 1
    assert all(many[path] == data for path, data in few.items())


def test_another_seed_gives_other_pictures(drawn, tmp_path):
    write_imagefolder(tmp_path / "other", 1, 1, 1, side_px=(64, 96), seed=1)
    first = _tree(drawn / "imagefolder")
    assert all(first[path] != data for path, data in _tree(tmp_path / "other").items())


def test_no_picture_occurs_twice(drawn):
    pictures = [data for folder in ("imagenet", "imagefolder") for data in _tree(drawn / folder).values()]
    assert len(set(pictures)) == len(pictures)


def _features(records: list[Record], side_px: int) -> np.ndarray:
    """(N, 3 * side_px * side_px) pixels of the shrunken pictures."""
    images = [Image.open(BytesIO(record.image.read())) for record in records]
    shrunken = [np.asarray(image.resize((side_px, side_px), Image.Resampling.BOX), float) / 255 for image in images]
    return np.stack(shrunken).reshape(len(records), -1)


def _by_nearest_mean(x: np.ndarray, y: np.ndarray, probes: np.ndarray) -> np.ndarray:
    means = np.stack([x[y == label].mean(0) for label in range(y.max() + 1)])
    return np.linalg.norm(probes[:, None] - means, axis=2).argmin(1)


def _by_ridge_regression(x: np.ndarray, y: np.ndarray, probes: np.ndarray) -> np.ndarray:
    """The best linear map to one-hot labels with a squared penalty (dual form)."""
    centre, targets = x.mean(0), np.eye(y.max() + 1)[y] - 1 / (y.max() + 1)
    gram = (x - centre) @ (x - centre).T
    return ((probes - centre) @ (x - centre).T @ np.linalg.solve(gram + 3 * np.eye(len(x)), targets)).argmax(1)


@pytest.mark.parametrize("fmt, held_out", [("imagenet", "val"), ("imagefolder", "test")])
@pytest.mark.parametrize(
    "classify, side_px", [(_by_nearest_mean, 1), (_by_nearest_mean, 16), (_by_ridge_regression, 16)]
)
def test_shortcuts_do_not_suffice(drawn, fmt, held_out, classify, side_px):
    records = _records(fmt, drawn / fmt)
    classes = sorted({record.labels[0] for record in records})
    known, probes = ([r for r in records if r.split == split] for split in ("train", held_out))
    truth = np.array([classes.index(record.labels[0]) for record in probes])
    labels = np.array([classes.index(record.labels[0]) for record in known])
    answers = classify(_features(known, side_px), labels, _features(probes, side_px))
    assert len(classes) == (len(PRETRAINING_KINDS) if fmt == "imagenet" else len(UNSEEN_SHAPES))
    # Typical hues tell some of it, as they do of fruit; the rest takes the shape.
    assert (answers == truth).mean() < 0.6
