"""COCO and VOC layouts of the same scenes: the real readers read them alike."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from stages.data.formats import open_source
from stages.data.records import Record
from stages.data.shapes import write_coco, write_voc
from stages.data.shapes.scenes import SCENE_SHAPES

COUNTS = {"train": 12, "val": 3, "test": 4}
SIZE_PX = (96, 128)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    write_coco(folder / "coco", *COUNTS.values(), SIZE_PX, seed=0)
    write_voc(folder / "voc", *COUNTS.values(), SIZE_PX, seed=0)
    return folder


def _records(fmt: str, folder: Path) -> list[Record]:
    records = list(open_source(fmt, folder).records())
    assert all(isinstance(record, Record) and not record.defects for record in records)
    return records


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("fmt", ["coco", "voc"])
def test_readers_read_it(drawn, fmt):
    source = open_source(fmt, drawn / fmt)
    assert source.task == "detection" and sorted(source.classes) == sorted(SCENE_SHAPES)
    records = _records(fmt, drawn / fmt)
    assert {split: sum(record.split == split for record in records) for split in COUNTS} == COUNTS
    for record in records:
        image = Image.open(BytesIO(record.image.read()))
        assert record.size_px == image.size == SIZE_PX[::-1] and image.format == "JPEG"


def test_coco_and_voc_agree(drawn):
    """Same pixels, splits, boxes and labels, in the same order."""
    coco, voc = (
        {record.image.read(): (record.split, [(b.label, b.xyxy) for b in record.boxes]) for record in records}
        for records in (_records("coco", drawn / "coco"), _records("voc", drawn / "voc"))
    )
    assert coco == voc and len(coco) == sum(COUNTS.values())


def test_coco_reader_keeps_polygons_and_joints(drawn):
    boxes = [box for record in _records("coco", drawn / "coco") for box in record.boxes]
    assert all(box.polygons for box in boxes)
    assert {len(box.keypoints) for box in boxes if box.label == "arrow"} == {15}
    assert not any(box.keypoints for box in boxes if box.label != "arrow")
    source = open_source("coco", drawn / "coco")
    assert source.skeleton == ("tip", "left_barb", "right_barb", "neck", "tail")
    assert source.skeleton_edges == ((0, 1), (0, 2), (0, 3), (3, 4))


def test_voc_flags_are_kept(drawn):
    boxes = [box for record in _records("voc", drawn / "voc") for box in record.boxes]
    assert any(box.truncated for box in boxes) and not all(box.truncated for box in boxes)


@pytest.mark.parametrize("split", COUNTS)
def test_pycocotools_agrees_with_area_and_box(drawn, split, capsys):
    coco = COCO(str(drawn / "coco" / "annotations" / f"instances_{split}2017.json"))
    assert len(coco.imgs) == COUNTS[split]
    for annotation in coco.anns.values():
        mask = coco.annToMask(annotation)
        x, y, width, height = annotation["bbox"]
        columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
        found = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        assert np.abs(np.subtract(found, (x, y, x + width, y + height))).max() <= 1
        assert annotation["area"] == pytest.approx(mask.sum(), rel=0.25, abs=15)
        assert annotation["iscrowd"] == 0


def test_ids_are_unique_over_splits(drawn):
    documents = [json.loads(file.read_text()) for file in sorted((drawn / "coco" / "annotations").iterdir())]
    for kind in ("images", "annotations"):
        ids = [item["id"] for document in documents for item in document[kind]]
        assert len(ids) == len(set(ids)) and all(ids)


def test_joints_are_counted(drawn):
    document = json.loads((drawn / "coco" / "annotations" / "instances_train2017.json").read_text())
    arrows = [annotation for annotation in document["annotations"] if "keypoints" in annotation]
    assert arrows
    for arrow in arrows:
        assert arrow["num_keypoints"] == sum(visibility > 0 for visibility in arrow["keypoints"][2::3])


@pytest.mark.parametrize("write", [write_coco, write_voc])
def test_bytes_do_not_depend_on_counts(drawn, tmp_path, write):
    name = write.__name__.removeprefix("write_")
    write(tmp_path / name, 2, 1, 1, SIZE_PX, seed=0)
    many, few = _tree(drawn / name), _tree(tmp_path / name)
    images = [path for path in few if path.endswith(".jpg")]
    assert len(images) == 4 and all(many[path] == few[path] for path in images)


@pytest.mark.parametrize("write", [write_coco, write_voc])
def test_whole_folders_repeat(drawn, tmp_path, write):
    name = write.__name__.removeprefix("write_")
    write(tmp_path / name, *COUNTS.values(), SIZE_PX, seed=0)
    assert _tree(tmp_path / name) == _tree(drawn / name)
