"""stages/data/formats/cifar.py."""

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.data.formats.cifar import read
from stages.data.records import Record, Rejected

TEN = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
FINE, COARSE = ["apple", "aquarium_fish", "bear"], ["fruit_and_vegetables", "fish", "large_carnivores"]


def images(num: int, seed: int = 0) -> np.ndarray:
    """uint8 [N, 32, 32, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (num, 32, 32, 3), np.uint8)


def planes(pixels: np.ndarray) -> np.ndarray:
    """CIFAR's rows: 1024 red, 1024 green, 1024 blue."""
    return pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)


def ten_python(folder: Path, num: int = 4) -> Path:
    folder.mkdir(parents=True)
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": TEN, "num_vis": 3072}, 2))
    for seed, name in enumerate(("data_batch_1", "data_batch_2", "test_batch")):
        batch = {b"data": planes(images(num, seed)), b"labels": [(i + seed) % 10 for i in range(num)]}
        (folder / name).write_bytes(pickle.dumps(batch, 2))
    return folder


def ten_binary(folder: Path, num: int = 4) -> Path:
    folder.mkdir(parents=True)
    (folder / "batches.meta.txt").write_text("\n".join([*TEN, "", ""]))
    for seed, name in enumerate(("data_batch_1.bin", "data_batch_2.bin", "test_batch.bin")):
        rows = [bytes([(i + seed) % 10]) + row.tobytes() for i, row in enumerate(planes(images(num, seed)))]
        (folder / name).write_bytes(b"".join(rows))
    return folder


def hundred(folder: Path, is_binary: bool) -> Path:
    folder.mkdir(parents=True)
    fine, coarse = [2, 0, 1, 2], [2, 0, 1, 2]
    for seed, name in enumerate(("train", "test")):
        rows = planes(images(4, seed))
        if is_binary:
            told = zip(coarse, fine, rows, strict=True)
            (folder / f"{name}.bin").write_bytes(b"".join(bytes([c, f]) + row.tobytes() for c, f, row in told))
        else:
            batch = {b"data": rows, b"fine_labels": fine, b"coarse_labels": coarse, b"filenames": [b"x.png"] * 4}
            (folder / name).write_bytes(pickle.dumps(batch, 2))
    if is_binary:
        (folder / "fine_label_names.txt").write_text("\n".join(FINE) + "\n")
        (folder / "coarse_label_names.txt").write_text("\n".join(COARSE) + "\n")
    else:
        (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": FINE, "coarse_label_names": COARSE}, 2))
    return folder


@pytest.mark.parametrize("make", [ten_python, ten_binary])
def test_images_labels_and_splits(tmp_path: Path, make) -> None:
    source = read(make(tmp_path / "cifar"))
    records = list(source.records())
    assert source.classes == {name: name for name in TEN}
    assert [r.path for r in records] == sorted({r.path for r in records})
    assert [r.path for r in records][3:5] == ["data_batch_1/00003.png", "data_batch_2/00000.png"]
    assert [r.split for r in records] == ["train"] * 8 + ["test"] * 4
    assert [r.labels[0] for r in records[4:8]] == TEN[1:5]
    for seed in range(3):
        for number, pixels in enumerate(images(4, seed)):
            image = Image.open(io.BytesIO(records[4 * seed + number].image.read()))
            assert np.array_equal(np.asarray(image), pixels)


def test_both_versions_give_the_same_records(tmp_path: Path) -> None:
    one, other = (list(read(make(tmp_path / make.__name__)).records()) for make in (ten_python, ten_binary))
    assert one == other
    assert [r.image.read() for r in one] == [r.image.read() for r in other]


@pytest.mark.parametrize("is_binary", [False, True])
def test_cifar_100_has_fine_labels_and_says_the_coarse_ones(tmp_path: Path, is_binary: bool) -> None:
    source = read(hundred(tmp_path / "cifar", is_binary))
    assert source.classes == {
        "apple": "apple (fruit and vegetables)",
        "aquarium_fish": "aquarium fish (fish)",
        "bear": "bear (large carnivores)",
    }
    records = list(source.records())
    assert [(r.split, r.labels[0]) for r in records[3:6]] == [("test", "bear"), ("train", "bear"), ("train", "apple")]


def test_the_folder_may_be_that_above(tmp_path: Path) -> None:
    ten_python(tmp_path / "cifar-10-batches-py")
    assert len(list(read(tmp_path).records())) == 12


def test_beside_the_python_version_the_binary_one_is_left_out(tmp_path: Path) -> None:
    ten_python(tmp_path / "cifar-10-batches-py")
    ten_binary(tmp_path / "cifar-10-batches-bin")
    source = read(tmp_path)
    assert len(list(source.records())) == 12
    assert len(source.notes) == 1 and "holds the same images: left out" in source.notes[0]


def test_both_cifars_at_once_are_refused(tmp_path: Path) -> None:
    ten_python(tmp_path / "a")
    hundred(tmp_path / "b", is_binary=False)
    with pytest.raises(ValueError, match=r"more than one CIFAR, a/batches\.meta, b/meta: name the folder of one"):
        read(tmp_path)


def test_a_batch_that_would_run_something_is_rejected_and_the_others_are_read(tmp_path: Path) -> None:
    root, mark = ten_python(tmp_path / "cifar"), tmp_path / "run"
    (root / "data_batch_2").write_bytes(b"cos\nsystem\n(S'touch " + str(mark).encode() + b"'\ntR.")
    items = list(read(root).records())
    (rejected,) = (item for item in items if isinstance(item, Rejected))
    assert rejected == Rejected("data_batch_2", "data_batch_2 is a pickle that imports os.system: it was not run")
    assert sum(isinstance(item, Record) for item in items) == 8
    assert not mark.exists()


def test_names_that_would_run_something_are_refused(tmp_path: Path) -> None:
    root, mark = ten_python(tmp_path / "cifar"), tmp_path / "run"
    (root / "batches.meta").write_bytes(b"cos\nsystem\n(S'touch " + str(mark).encode() + b"'\ntR.")
    with pytest.raises(ValueError, match=r"batches\.meta is a pickle that imports os\.system: it was not run"):
        read(root)
    assert not mark.exists()


BATCHES = {
    "more labels": ({"data": planes(images(2)), "labels": [1, 2, 3]}, "2 images and 3 labels"),
    "other shape": (
        {"data": np.zeros((2, 100), np.uint8), "labels": [1, 2]},
        r"shape \(N, 3072\), are of shape \(2, 100\)",
    ),
    "no data": ({"labels": [1, 2]}, "are a NoneType"),
    "no labels": ({"data": planes(images(2))}, "labels must be a list of numbers"),
    "text labels": ({"data": planes(images(2)), "labels": ["cat", "dog"]}, "labels must be a list of numbers"),
    "not a dict": ([1, 2], "its data must be"),
}


@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_that_is_none_is_rejected(tmp_path: Path, name: str) -> None:
    root = ten_python(tmp_path / "cifar")
    content, reason = BATCHES[name]
    (root / "test_batch").write_bytes(pickle.dumps(content, 2))
    *records, rejected = read(root).records()
    assert len(records) == 8 and isinstance(rejected, Rejected)
    with pytest.raises(ValueError, match=reason):
        raise ValueError(rejected.reason)


def test_a_label_without_a_name_is_rejected(tmp_path: Path) -> None:
    root = ten_binary(tmp_path / "cifar")
    data = bytearray((root / "test_batch.bin").read_bytes())
    data[3073] = 10
    (root / "test_batch.bin").write_bytes(data)
    rejected = [item for item in read(root).records() if isinstance(item, Rejected)]
    assert rejected == [Rejected("test_batch/00001.png", "label 10 has no name: batches.meta.txt names 10 classes")]


def test_a_cut_binary_file_keeps_its_whole_images(tmp_path: Path) -> None:
    root = ten_binary(tmp_path / "cifar")
    file = root / "test_batch.bin"
    file.write_bytes(file.read_bytes()[:-100])
    items = list(read(root).records())
    assert items[-1] == Rejected("test_batch.bin", "ends within an image, 2973 bytes after the last")
    assert sum(isinstance(item, Record) for item in items) == 11


def test_names_are_needed_once_each(tmp_path: Path) -> None:
    root = ten_python(tmp_path / "cifar")
    (root / "batches.meta").write_bytes(pickle.dumps({"label_names": [*TEN, "cat"]}, 2))
    with pytest.raises(ValueError, match=r"batches\.meta must name the classes, each once; has 11 names"):
        read(root)
    (root / "batches.meta").unlink()
    with pytest.raises(ValueError, match=r"no CIFAR data in .*looked for batches\.meta"):
        read(root)
