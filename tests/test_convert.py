"""The stage `convert`: what is exported comes back the same when it is ingested, and what a format loses is told."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.convert import convert, main
from stages.data import formats
from stages.data.dataset import Dataset
from stages.data.index import Row
from stages.data.records import Blob, Box, Record, Source
from stages.ingest import ingest

CLASSES = {"cat": "house cat", "wild dog": "wild dog", "emu/ostrich": "Läufer", "unused": "unused"}
JOINTS = ("nose", "tail")
# Run lengths of 30 x 20 pixels, of which those in columns 5 to 9 and rows 5 to 8 are set.
RLE = "Y34`00000000[<"


def picture(
    file: Path, seed: int, size_px: tuple[int, int] = (30, 20), orientation: int = 1, mode: str = "RGB"
) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size_px[::-1], 3), np.uint8)
    exif = Image.Exif()
    exif[274] = orientation
    image = Image.fromarray(pixels).convert(mode)
    image.save(file, "PNG" if file.suffix.lower() == ".png" else "JPEG", exif=exif)


def nasty_boxes() -> dict[str, tuple[Box, ...]]:
    """Path -> objects: all that a dataset can hold, and file names that no file system should meet."""
    triangle, square = (1.5, 2.25, 9.1, 2.25, 9.1, 8.0), (10.0, 10.0, 20.0, 10.0, 20.0, 19.0, 10.0, 19.0)
    return {
        "a/x.jpg": (Box("cat", (1.1, 2.2, 29.999999999, 19.3), difficult=True), Box("wild dog", (0, 0, 30, 20))),
        "b/x.jpg": (Box("cat", (1 / 3, 2 / 7, 29.7, 11.13), truncated=True),) * 2,
        "b/X.png": (),
        "c/crowd.jpg": (
            Box("cat", (5.0, 5.0, 10.0, 9.0), is_crowd=True, rle=RLE),
            Box("emu/ostrich", (2.0, 3.0, 9.0, 8.0), is_crowd=True),
            Box("cat", (0.1, 0.2, 0.3, 0.4)),
        ),
        "c/parts.jpg": (Box("cat", (1.5, 2.25, 20.0, 19.0), polygons=(triangle, square)),),
        "c/closed.jpg": (Box("wild dog", (1.5, 2.25, 9.1, 8.0), polygons=((*triangle, 1.5, 2.25),)),),
        "d/edge.jpg": (Box("wild dog", (-0.25, -1.5, 30.5, 20.125)),),
        "d/joints.jpg": (
            Box("cat", (3.0, 4.0, 8.0, 9.0), keypoints=(3.3, 4.4, 2.0, 0.0, 0.0, 0.0)),
            Box("cat", (4.0, 4.0, 8.0, 9.0), keypoints=(0.0,) * 6),
        ),
        "d/.hidden: why?.jpg": (Box("cat", (3.0, 4.0, 8.0, 9.0)),),
        "d/turned.jpg": (Box("cat", (3.0, 4.0, 8.0, 29.0)),),
        "e/grün 1": (Box("wild dog", (1e-7, 0.5, 1.0, 2.0)),),
    }


def detection(root: Path, change: Callable[[Box], Box] = lambda box: box) -> Source:
    """The nasty boxes, with their images."""
    records = []
    for number, (path, boxes) in enumerate(sorted(nasty_boxes().items())):
        orientation, mode = (6 if "turned" in path else 1), ("L" if "edge" in path else "RGB")
        picture(root / path, number, orientation=orientation, mode=mode)
        size_px = (20, 30) if orientation == 6 else (30, 20)
        split, group = ("train", "val", "test")[number % 3], ("film" if path.startswith("d/") else None)
        things = tuple(map(change, boxes))
        records.append(Record(path, Blob(root / path), split, boxes=things, group=group, size_px=size_px))
    return Source(
        "detection",
        CLASSES,
        lambda: iter(records),
        JOINTS,
        ((0, 1),),
        licence="CC BY 4.0; mine",
        origin="https://x.y/z",
    )


def add(name: str, source: Source) -> Dataset:
    ingest(Path("data") / name, source, progress=False, workers=1)
    return Dataset(Path("data") / name)


def said(dataset: Dataset) -> dict[str, Any]:
    """sha256 -> all that the dataset says of an image."""
    columns = ["sha256", "split", "labels", "objects", "group", "width", "height"]
    return {row.pop("sha256"): row for row in dataset.table(columns=columns).to_pylist()}


def again(name: str, fmt: str, **options: Any) -> tuple[dict[str, Any], Dataset]:
    """Export a dataset and ingest that: the report, and the second dataset."""
    folder = Path("out") / f"{name} as {fmt}"
    report = convert(name, folder, fmt, progress=False, **options)
    return report, add(f"{name}-{fmt}-again", formats.open_source(fmt, folder))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plain(thing: Row, **changes: Any) -> Row:
    return {**thing, "polygons": [], "rle": None, "keypoints": [], **changes}


def test_coco_holds_everything(here: Path) -> None:
    dataset = add("pets", detection(here / "source"))
    report, copy = again("pets", "coco", strict=True)
    assert said(copy) == said(dataset)
    assert copy.description == dataset.description
    assert report["not held"] == {} and report["note"] == ""
    assert (report["images"], report["objects"], report["splits"]) == (11, 15, {"train": 4, "val": 4, "test": 3})


def test_voc_holds_boxes_flags_and_splits_and_tells_the_rest(here: Path) -> None:
    dataset = add("pets", detection(here / "source"))
    report, copy = again("pets", "voc")
    expected = said(dataset)
    for row in expected.values():
        row["group"] = None
        is_difficult = [thing["difficult"] or thing["is_crowd"] for thing in row["objects"]]
        row["objects"] = [
            plain(thing, is_crowd=False, difficult=difficult)
            for thing, difficult in zip(row["objects"], is_difficult, strict=True)
        ]
    assert said(copy) == expected
    assert report["not held"] == {
        "classes without an object": 1,
        "crowd flags": 2,
        "difficult flags that were not there": 2,
        "groups of images": 4,
        "keypoints": 1,
        "masks of run lengths": 1,
        "names of classes for people": 2,
        "polygons": 2,
        "the edges of the skeleton": 1,
        "the licence": 1,
        "the order of the classes": 1,
        "the origin": 1,
        "the skeleton": 1,
    }
    assert report["note"].startswith("voc could not hold: 1 classes without an object, 2 crowd flags, 2 difficult")
    assert "the order of the classes" in report["note"] and "1 the" not in report["note"]
    assert (here / "out/pets as voc/LICENCE.txt").read_text() == "Licence: CC BY 4.0; mine\nOrigin: https://x.y/z\n"


@pytest.mark.parametrize("only", ["boxes", "polygons", "keypoints"])
def test_yolo_holds_one_kind_of_object(here: Path, only: str) -> None:
    dataset = add("pets", detection(here / "source"))
    report, copy = again("pets", "yolo", only=only)
    before, after = said(dataset), said(copy)
    assert before.keys() == after.keys()
    for digest, row in before.items():
        kept = [thing for thing in row["objects"] if not thing["is_crowd"]]
        found = after[digest]["objects"]
        assert after[digest]["split"] == row["split"]
        assert [thing["label"] for thing in kept] == [thing["label"] for thing in found]
        assert [thing["bbox_xyxy"] for thing in kept] == [thing["bbox_xyxy"] for thing in found]
        if only == "keypoints":
            assert [t["keypoints"] or [0.0] * 6 for t in kept] == [t["keypoints"] or [0.0] * 6 for t in found]
        if only == "polygons":
            assert all(a["polygons"] in (b["polygons"], []) for a, b in zip(kept, found, strict=True))
            assert all(thing["polygons"] for thing in found)
    assert copy.classes == dataset.classes
    assert (copy.description.licence, copy.description.origin) == (
        dataset.description.licence,
        dataset.description.origin,
    )
    assert report["not held"]["crowds"] == 2 and report["objects"] == 13
    assert report["not held"]["difficult flags"] == 1
    assert report["not held"].get("polygons that were not there") == (11 if only == "polygons" else None)
    assert report["not held"].get("the edges of the skeleton") == (1 if only == "keypoints" else None)


def test_yolo_alone_writes_the_most_that_there_is(here: Path) -> None:
    add("pets", detection(here / "source"))
    assert again("pets", "yolo")[1].skeleton.joints == JOINTS
    add("flat", detection(here / "source", lambda box: replace(box, keypoints=())))
    assert any(t["polygons"] for row in said(again("flat", "yolo")[1]).values() for t in row["objects"])
    add("bare", detection(here / "source", lambda box: Box(box.label, box.xyxy)))
    report, copy = again("bare", "yolo")
    assert not any(t["polygons"] or t["keypoints"] for row in said(copy).values() for t in row["objects"])
    assert report["not held"] == {
        "groups of images": 4,
        "names of classes for people": 2,
        "the edges of the skeleton": 1,
        "the skeleton": 1,
    }


def test_yolo_gives_any_box_and_outline_back_to_the_last_bit(here: Path) -> None:
    rng = np.random.default_rng(0)
    picture(here / "big.png", 0, size_px=(641, 479))
    boxes = []
    for _ in range(300):
        x1, y1 = rng.uniform(-5, 600, 2)
        width, height = 10.0 ** rng.uniform(-6, 2, 2)
        points = tuple(rng.uniform(0, 470, 6).tolist())
        x, y = points[::2], points[1::2]
        boxes.append(Box("cat", (float(x1), float(y1), float(x1 + width), float(y1 + height))))
        boxes.append(Box("cat", (min(x), min(y), max(x), max(y)), polygons=(points,)))
    for name, kept in (("boxes", boxes[::2]), ("outlines", boxes[1::2])):
        record = Record("big.png", Blob(here / "big.png"), "train", boxes=tuple(kept))
        dataset = add(name, Source("detection", {"cat": "cat"}, lambda record=record: iter([record])))
        report, copy = again(name, "yolo", strict=True)
        assert said(copy) == said(dataset), report


def classification(root: Path, **labels: str | tuple[str, ...]) -> Source:
    records = []
    for number, (name, label) in enumerate(labels.items()):
        path = f"{name.replace('__', '/')}.png"
        picture(root / path, number)
        told = (label,) if isinstance(label, str) else label
        records.append(Record(path, Blob(root / path), ("train", "val")[number % 2], labels=told))
    classes = {label: label for record in records for label in record.labels}
    return Source("classification", dict(sorted(classes.items())), lambda: iter(sorted(records, key=lambda r: r.path)))


@pytest.mark.parametrize("fmt", ["imagefolder", "coco"])
def test_labels_of_whole_images(here: Path, fmt: str) -> None:
    dataset = add("pets", classification(here / "source", a__1="cat", b__1="dog", a__2="dog", c__1="cat"))
    report, copy = again("pets", fmt, strict=True)
    assert said(copy) == said(dataset)
    assert copy.classes == dataset.classes and report["objects"] == 0


def test_imagefolder_tells_labels_that_are_no_folders_and_second_labels(here: Path) -> None:
    source = classification(here / "source", a="cat", b="a/b", c=("cat", "dog"), d="..", e=".hidden", f="dog")
    dataset = add("pets", source)
    report, copy = again("pets", "imagefolder")
    assert report["images"] == 3 and report["not held"] == {
        "classes without an object": 3,
        "images": 3,
        "labels of images": 1,
    }
    assert sum(row["labels"] == ["cat"] for row in said(copy).values()) == 2
    with pytest.raises(ValueError, match=r"imagefolder can't hold 3 classes .* 3 images, 1 labels of images .strict"):
        convert("pets", here / "strict", "imagefolder", strict=True, progress=False)
    assert not (here / "strict").exists() and len(dataset.table()) == 6
    assert again("pets", "coco", strict=True)[0]["not held"] == {}


def test_a_dataset_of_another_kind_is_refused(here: Path) -> None:
    add("labels", classification(here / "source", a="cat"))
    add("boxes", detection(here / "source"))
    for name, fmt, words in (
        ("labels", "voc", "voc holds boxes, the dataset is for classification: use coco or imagefolder"),
        ("labels", "yolo", "yolo holds objects, the dataset is for classification: use coco or imagefolder"),
        ("boxes", "imagefolder", "imagefolder holds labels of whole images, the dataset is for detection: use coco"),
        ("boxes", "mask-png", "mask-png holds a class for every pixel, the dataset is for detection: use coco"),
    ):
        with pytest.raises(ValueError, match=words):
            convert(name, here / "out", fmt, progress=False)
        assert not (here / "out").exists()


def test_images_are_the_bytes_that_were_ingested_under_their_own_names(here: Path) -> None:
    add("pets", detection(here / "source"))
    convert("pets", here / "out", "voc", progress=False)
    files = {file.name: file.read_bytes() for file in (here / "out/JPEGImages").iterdir()}
    source = {path: (here / "source" / path).read_bytes() for path in nasty_boxes()}
    assert sorted(files.values()) == sorted(source.values())
    names = {data: name for name, data in files.items()}
    assert {path: names[data] for path, data in source.items()} == {
        "a/x.jpg": "a_x.jpg",
        "b/x.jpg": "x_" + names[source["b/x.jpg"]][2:],
        "b/X.png": "X_" + names[source["b/X.png"]][2:],
        "c/crowd.jpg": "crowd.jpg",
        "c/parts.jpg": "parts.jpg",
        "c/closed.jpg": "closed.jpg",
        "d/edge.jpg": "edge.jpg",
        "d/joints.jpg": "joints.jpg",
        "d/.hidden: why?.jpg": "_hidden_ why_.jpg",
        "d/turned.jpg": "turned.jpg",
        "e/grün 1": "grün 1.jpg",
    }


@pytest.mark.parametrize("fmt", ["coco", "voc", "yolo"])
def test_the_same_dataset_gives_the_same_bytes(here: Path, fmt: str) -> None:
    add("pets", detection(here / "source"))
    for folder in ("one", "other"):
        convert("pets", here / folder, fmt, progress=False)
    one, other = (
        {str(f.relative_to(here / name)): f.read_bytes() for f in (here / name).rglob("*") if f.is_file()}
        for name in ("one", "other")
    )
    assert one == other and len(one) > 11


def test_some_splits_only(here: Path) -> None:
    add("pets", detection(here / "source"))
    report = convert("pets", here / "out", "coco", splits=["train", "test"], progress=False)
    assert report["splits"] == {"train": 4, "test": 3}
    assert sorted(file.name for file in (here / "out").iterdir()) == ["annotations", "test", "train"]
    add("labels", classification(here / "source", a="cat"))
    with pytest.raises(ValueError, match="labels has no image in val; it has: train"):
        convert("labels", here / "other", "coco", splits=["val"], progress=False)


def test_a_folder_that_holds_something_stays_as_it_is(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add("pets", detection(here / "source"))
    (here / "full").mkdir()
    (here / "full/mine.txt").write_text("mine")
    assert main(["pets", "full", "--format", "coco"]) == 1
    assert capsys.readouterr().err == "export pets: full is there already: name a folder that is new or empty\n"
    assert [file.name for file in (here / "full").iterdir()] == ["mine.txt"]
    (here / "empty").mkdir()
    assert main(["pets", "empty", "--format", "coco", "--report", "report.json"]) == 0
    assert json.loads((here / "report.json").read_text())["images"] == 11
    assert (here / "empty/annotations").is_dir()


def test_what_fails_halfway_leaves_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add("pets", detection(here / "source"))
    next((here / "data/pets/shards").iterdir()).unlink()
    assert main(["pets", "out", "--format", "yolo"]) == 1
    assert "is not there: get it with `dvc pull`" in capsys.readouterr().err
    assert not (here / "out").exists() and not list(here.glob(".out*"))


def test_labels_that_xml_can_not_hold(here: Path) -> None:
    add(
        "pets",
        detection(here / "source", lambda box: replace(box, label="a<&>\"'b" if box.label == "cat" else box.label)),
    )
    _, copy = again("pets", "voc")
    assert "a<&>\"'b" in copy.classes
    add("odd", detection(here / "source", lambda box: replace(box, label="bell\x07")))
    with pytest.raises(ValueError, match=r"class 'bell\\x07' has the character '\\x07', which XML can't hold"):
        convert("odd", here / "odd", "voc", progress=False)


REAL = {
    "bccd": ("voc", "bccd", None),
    "coco-mini": ("coco", "coco-mini", None),
    "boxes": ("yolo", "coco128-yolo/object_detection", "coco128-yolo/images"),
    "outlines": ("yolo", "coco128-yolo/instance_segmentation", "coco128-yolo/images"),
    "voc100": ("voc", "voc100-multiformat/gts/pascalvoc_format", "voc100-multiformat/images"),
    "clothing": ("imagefolder", "clothing-small", None),
}


def real(shared_data: Path, name: str, num: int | None = 25) -> Source:
    """The first images of a real set, with their classes."""
    fmt, folder, images = REAL[name]
    source = formats.open_source(fmt, shared_data / folder, shared_data / images if images else None)
    records = [item for item in source.records() if isinstance(item, Record)][:num]
    used = {label for r in records for label in (*r.labels, *(box.label for box in r.boxes or ()))}
    kept = used if fmt in ("voc", "imagefolder") else {*source.classes}
    classes = {label: title for label, title in source.classes.items() if label in kept}
    return replace(source, classes=classes, records=lambda: iter(records))


@pytest.mark.parametrize("name", REAL)
def test_real_data_come_back_in_their_own_format(here: Path, shared_data: Path, name: str) -> None:
    """To the last bit."""
    dataset = add(name, real(shared_data, name))
    report, copy = again(name, REAL[name][0], strict=True)
    assert said(copy) == said(dataset)
    assert copy.description == dataset.description
    assert report["images"] == len(dataset.table()) == 25


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", ["bccd", "coco-mini", "outlines"])
def test_all_of_a_real_set_comes_back(here: Path, shared_data: Path, name: str) -> None:
    dataset = add(name, real(shared_data, name, num=None))
    _, copy = again(name, REAL[name][0], strict=True)
    assert said(copy) == said(dataset)
    assert copy.description == dataset.description


@pytest.mark.parametrize("name", ["bccd", "outlines", "voc100"])
def test_real_data_come_back_from_coco(here: Path, shared_data: Path, name: str) -> None:
    """COCO's width is a difference: some fractional edges come back one bit beside, no whole one does."""
    dataset = add(name, real(shared_data, name))
    before, after = said(dataset), said(again(name, "coco", strict=True)[1])
    if name == "outlines":
        for digest, row in before.items():
            for thing, found in zip(row["objects"], after[digest]["objects"], strict=True):
                assert thing.pop("bbox_xyxy") == pytest.approx(found.pop("bbox_xyxy"), abs=1e-12, rel=0)
    assert after == before
