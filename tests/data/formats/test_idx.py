"""stages/data/formats/idx.py."""

import gzip
import io
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.data.formats.idx import read
from stages.data.records import Record, Rejected


def idx(values: np.ndarray, kind: int = 8) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, kind, values.ndim, *values.shape) + values.tobytes()


def make(
    root: Path, name: str = "train", num: int = 3, suffix: str = "", labels: list[int] | None = None
) -> np.ndarray:
    """Images uint8 [N, 4, 6], written with their labels."""
    pixels = np.random.default_rng(0).integers(0, 256, (num, 4, 6), np.uint8)
    numbers = np.array(labels if labels is not None else [i % 10 for i in range(num)], np.uint8)
    pack = gzip.compress if suffix else bytes
    (root / f"{name}-images-idx3-ubyte{suffix}").write_bytes(pack(idx(pixels)))
    (root / f"{name}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(numbers)))
    return pixels


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_images_labels_and_splits(tmp_path: Path, suffix: str) -> None:
    pixels = make(tmp_path, "train", 3, suffix, labels=[7, 0, 7])
    make(tmp_path, "t10k", 2, suffix, labels=[1, 0])
    source = read(tmp_path)
    records = list(source.records())
    assert source.classes == {"0": "0", "1": "1", "7": "7"}
    assert [(r.path, r.split, r.labels) for r in records] == [
        ("t10k/000000.png", "test", ("1",)),
        ("t10k/000001.png", "test", ("0",)),
        ("train/000000.png", "train", ("7",)),
        ("train/000001.png", "train", ("0",)),
        ("train/000002.png", "train", ("7",)),
    ]
    shown = [np.asarray(Image.open(io.BytesIO(r.image.read()))) for r in records[2:]]
    assert np.array_equal(shown, pixels)
    assert records == list(source.records())


def test_names_with_dots_and_a_gzip_without_suffix(tmp_path: Path) -> None:
    make(tmp_path, "train", 3, ".gz")
    for part, number in (("images", 3), ("labels", 1)):
        (tmp_path / f"train-{part}-idx{number}-ubyte.gz").rename(tmp_path / f"train-{part}.idx{number}-ubyte")
    assert len(list(read(tmp_path).records())) == 3


def test_emnist_is_turned_and_its_labels_have_characters(tmp_path: Path) -> None:
    pixels = make(tmp_path, "emnist-letters-train", 3, ".gz", labels=[1, 2, 1])
    (tmp_path / "emnist-letters-mapping.txt").write_text("1 65 97\n2 66 98\n3 67 99\n")
    source = read(tmp_path)
    records = list(source.records())
    assert source.classes == {"A": "A, a", "B": "B, b"}
    assert [(r.split, r.labels[0]) for r in records] == [("train", "A"), ("train", "B"), ("train", "A")]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(records[1].image.read()))), pixels[1].T)
    assert "rows and columns are swapped back" in source.notes[0]


def test_a_file_without_its_other_half_is_rejected(tmp_path: Path) -> None:
    make(tmp_path, "train")
    make(tmp_path, "t10k")
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    items = list(read(tmp_path).records())
    assert [item for item in items if isinstance(item, Rejected)] == [
        Rejected("t10k-images-idx3-ubyte", "images without a labels file")
    ]
    assert sum(isinstance(item, Record) for item in items) == 3
    (tmp_path / "train-images-idx3-ubyte").unlink()
    with pytest.raises(ValueError, match=r"looked for .*; found t10k-images-idx3-ubyte, train-labels-idx1-ubyte"):
        read(tmp_path)


def damaged(root: Path, name: str, change) -> Path:
    make(root, "train")
    file = root / name
    file.write_bytes(change(file.read_bytes()))
    return root


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
WRONG = {
    "magic of labels": (IMAGES, lambda d: struct.pack(">I", 2049) + d[4:], "its magic number is 2049, must be 2051"),
    "floats": (IMAGES, lambda d: struct.pack(">I", 0x0D03) + d[4:], "its magic number is 3331, must be 2051"),
    "no header": (IMAGES, lambda d: d[:9], "its header is cut"),
    "empty": (LABELS, lambda d: b"", "its header is cut"),
    "fewer labels": (LABELS, lambda d: d[:-1], "its header says 3 labels, it holds 2"),
    "more labels": (LABELS, lambda d: d + b"1", "its header says 3 labels, it holds more"),
    "counts": (LABELS, lambda d: idx(np.zeros(2, np.uint8)), "has 3 images, .* has 2 labels: must be as many"),
    "no width": (IMAGES, lambda d: idx(np.zeros((3, 4, 0), np.uint8)), "images of 0x4 pixels, must be 1 to 16384"),
    "hostile size": (IMAGES, lambda d: d[:8] + b"\x7f\xff\xff\xff" * 2, "pixels, must be 1 to 16384 a side"),
    "cut gzip": (LABELS, lambda d: gzip.compress(d)[:-9], "cut or damaged gzip"),
    "no gzip": (LABELS, lambda d: b"\x1f\x8bno gzip at all", "cut or damaged gzip"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_line_with_the_file(tmp_path: Path, name: str) -> None:
    path, change, reason = WRONG[name]
    with pytest.raises(ValueError, match=reason) as error:
        read(damaged(tmp_path, path, change))
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_images_before_the_end_of_a_cut_file_are_kept(tmp_path: Path, pack) -> None:
    items = list(read(damaged(tmp_path, IMAGES, lambda d: pack(d[:-10]))).records())
    assert items[2:] == [Rejected(IMAGES, "ends within image 2 of 3")]


def test_a_gzip_that_breaks_off_keeps_what_came_before(tmp_path: Path) -> None:
    noise = idx(np.random.default_rng(1).integers(0, 256, (300, 4, 6), np.uint8))
    (tmp_path / f"{IMAGES}.gz").write_bytes(gzip.compress(noise)[:-1500])
    (tmp_path / f"{LABELS}.gz").write_bytes(gzip.compress(idx(np.zeros(300, np.uint8))))
    *records, last = read(tmp_path).records()
    assert isinstance(last, Rejected) and "cut or damaged gzip" in last.reason
    assert len(records) > 100 and all(isinstance(record, Record) for record in records)


def test_bytes_after_the_last_image_are_told(tmp_path: Path) -> None:
    items = list(read(damaged(tmp_path, IMAGES, lambda d: d + b"more")).records())
    assert items[3:] == [Rejected(IMAGES, "goes on after its 3 images")]


def test_mnist(shared_data: Path) -> None:
    """Counts of the test split as published: 980 zeros, 1135 ones, ... (LeCun et al.)."""
    source = read(shared_data / "mnist-t10k")
    counts = Counter(record.labels[0] for record in source.records())
    assert [counts[str(digit)] for digit in range(10)] == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
