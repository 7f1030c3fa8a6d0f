"""The stage `convert` with masks: each pixel comes back with its class, whatever the classes are called."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.convert import convert
from stages.data import formats, masks
from stages.data.dataset import Dataset
from stages.data.records import VOID, Blob, Mask, Record, Source
from stages.ingest import ingest


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def picture(file: Path, seed: int, size_px: tuple[int, int], orientation: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[274] = orientation
    pixels = np.random.default_rng(seed).integers(0, 256, (*size_px[::-1], 3), np.uint8)
    Image.fromarray(pixels).save(file, exif=exif)


def add(name: str, source: Source) -> Dataset:
    ingest(Path("data") / name, source, progress=False, workers=1)
    return Dataset(Path("data") / name)


def again(name: str, fmt: str, **options: Any) -> tuple[dict[str, Any], Dataset]:
    """Export a dataset and ingest that: the report, and the second dataset."""
    folder = Path("out") / f"{name} as {fmt}"
    report = convert(name, folder, fmt, progress=False, **options)
    return report, add(f"{name}-{fmt}-again", formats.open_source(fmt, folder))


def masked(root: Path, names: list[str], values: list[np.ndarray]) -> Source:
    """A mask an image, of values that are places in the names, or VOID."""
    records = []
    for number, shown in enumerate(values):
        path = f"{number % 2}/x.{'png' if number % 2 else 'jpg'}" if number < 2 else f"film {number}/a.b{number}.jpg"
        height, width = shown.shape
        size_px, orientation = ((height, width), 6) if number == 3 else ((width, height), 1)
        picture(root / path, number, size_px=size_px, orientation=orientation)
        Image.fromarray(shown).save(root / f"mask{number}.png")
        mask = Mask(Blob(root / f"mask{number}.png"), dict(enumerate(names)), frozenset({VOID}))
        split, group = ("train", "val", "test")[number % 3], ("film" if number == 4 else None)
        records.append(Record(path, Blob(root / path), split, mask=mask, group=group))
    classes = {name: name for name in names}
    return Source("segmentation", classes, lambda: iter(sorted(records, key=lambda r: r.path)), licence="mine")


def seen(dataset: Dataset) -> dict[str, Any]:
    """sha256 -> split, and the class of each pixel as text."""
    columns = ["sha256", "split", "shard", "mask_offset", "mask_size", "mask_labels"]
    names = np.array([*dataset.classes, "nothing"])
    found = {}
    for row in dataset.table(columns=columns).to_pylist():
        data = dataset.read(row["shard"], row["mask_offset"], row["mask_size"])
        places = masks.placed(data, dict(enumerate(row["mask_labels"])), dataset.classes)
        found[row["sha256"]] = (row["split"], names[places].tolist())
    return found


NASTY = ["zebra", "# no comment", "1 euro", "a: b", "Läufer", "2,3", "unused", "ant"]


@pytest.mark.parametrize("names", [NASTY, [f"{n} euro" for n in range(8)], [f"c{n}" for n in range(254, -1, -1)]])
def test_masks_keep_every_pixel_class_and_split(here: Path, names: list[str]) -> None:
    rng = np.random.default_rng(0)
    values = [rng.choice([*range(6), 7, VOID], (9, 12)).astype(np.uint8) for _ in range(5)]
    values.append(np.full((4, 4), VOID, np.uint8))
    dataset = add("maps", masked(here / "source", names, values))
    report, copy = again("maps", "mask-png")
    assert report["not held"] == {"groups of images": 1, "the licence": 1}
    assert seen(copy) == seen(dataset) and len(seen(copy)) == 6
    assert copy.classes == dataset.classes == tuple(names)
    for split, path in (("train", "train/x.png"), ("test", "test/a.b2.png")):
        number = {"train": 0, "test": 2}[split]
        np.testing.assert_array_equal(
            np.asarray(Image.open(here / "out/maps as mask-png/masks" / path)), values[number]
        )
    assert (here / "out/maps as mask-png/LICENCE.txt").is_file()


def test_more_classes_than_eight_bits_have(here: Path) -> None:
    names = [f"c{n}" for n in range(300)]
    values = [np.arange(60, dtype=np.uint16).reshape(6, 10) + first for first in (0, 240)]
    values[1][0, 0] = 1000
    dataset = add("maps", masked(here / "source", names, values))
    copy = again("maps", "mask-png")[1]
    assert seen(copy) == seen(dataset) and copy.classes == dataset.classes
    # The reader sets 255 aside, which here is the class c255 on its way in, and no class on its way out.
    assert {name for _, rows in seen(copy).values() for row in rows for name in row} > {
        "nothing",
        "c254",
        "c255",
        "c299",
    }
    assert (here / "out/maps as mask-png/classes.txt").read_text().splitlines()[254:257] == [
        "254: c254", "256: c255", "257: c256",
    ]  # fmt: skip


def test_an_image_without_a_mask_is_left_out_and_told(here: Path) -> None:
    source = masked(here / "source", ["a"], [np.zeros((3, 4), np.uint8)] * 2)
    first, second = source.records()
    records = [first, replace(second, mask=None)]
    add("maps", replace(source, records=lambda: iter(records)))
    assert convert("maps", here / "out", "mask-png", progress=False)["not held"] == {"images": 1, "the licence": 1}


def test_a_class_that_is_no_line_is_named(here: Path) -> None:
    add("maps", masked(here / "source", ["a", "b\nc"], [np.zeros((3, 4), np.uint8)]))
    with pytest.raises(ValueError, match=r"class 'b\\nc' is no line of a classes.txt: mask-png can't hold it"):
        convert("maps", here / "out", "mask-png", progress=False)
    assert not (here / "out").exists()


def test_the_same_dataset_gives_the_same_bytes(here: Path) -> None:
    add("maps", masked(here / "source", NASTY, [np.full((9, 12), number, np.uint8) for number in range(6)]))
    for folder in ("one", "other"):
        convert("maps", here / folder, "mask-png", progress=False)
    one, other = (
        {str(f.relative_to(here / name)): f.read_bytes() for f in (here / name).rglob("*") if f.is_file()}
        for name in ("one", "other")
    )
    assert one == other and len(one) > 11


@pytest.mark.parametrize(("fmt", "holds"), [("coco", "labels and objects"), ("yolo", "objects")])
def test_a_format_without_masks_is_refused(here: Path, fmt: str, holds: str) -> None:
    add("maps", masked(here / "source", ["a"], [np.zeros((3, 4), np.uint8)]))
    with pytest.raises(ValueError, match=f"{fmt} holds {holds}, the dataset is for segmentation: use mask-png"):
        convert("maps", here / "out", fmt, progress=False)
    assert not (here / "out").exists()


def test_names_that_look_like_one_number_are_told_apart(here: Path) -> None:
    names = ["1 euro", "1 dollar"]
    dataset = add("maps", masked(here / "source", names, [np.arange(12, dtype=np.uint8).reshape(3, 4) % 2] * 2))
    report, copy = again("maps", "mask-png")
    assert report["not held"] == {"the licence": 1}
    assert seen(copy) == seen(dataset) and list(copy.classes) == names


REAL = {
    "camvid": ("camvid", "camvid", None),
    "semantic": ("mask-png", "coco128-yolo/semantic_segmentation", "coco128-yolo/images"),
    "panoptic": ("coco-panoptic", "coco128-yolo/panoptic_segmentation", "coco128-yolo/images"),
}


def real(shared_data: Path, name: str) -> Source:
    """The first images of a real set."""
    fmt, folder, images = REAL[name]
    source = formats.open_source(fmt, shared_data / folder, shared_data / images if images else None)
    records = [item for item in source.records() if isinstance(item, Record)][:6]
    return replace(source, records=lambda: iter(records))


@pytest.mark.parametrize("name", REAL)
def test_real_masks_come_back_pixel_by_pixel(here: Path, shared_data: Path, name: str) -> None:
    dataset = add(name, real(shared_data, name))
    report, copy = again(name, "mask-png", strict=True)
    assert seen(copy) == seen(dataset) and len(seen(copy)) == 6
    assert copy.classes == dataset.classes
    assert report["splits"] == dataset.splits == copy.splits
