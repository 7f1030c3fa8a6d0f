"""Rows of the index: keys, hashes of annotations, and boxes that follow the image upright."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image, ImageOps

from stages.data import index, run_lengths
from stages.data.images import ImageFacts
from stages.data.records import Blob, Box, Record

STORED_PX = (60, 40)
FACTS = ImageFacts("ab" * 32, "0" * 16, *STORED_PX, "RGB", "JPEG", 1)


def record(**changes):
    return replace(Record("a/b.jpg", Blob(Path("b.jpg"))), **changes)


def row_of(record, facts, split):
    return index.row(record, facts, split, index.annotation_hash(record))


def turned(orientation):
    size_px = STORED_PX[::-1] if orientation >= 5 else STORED_PX
    return replace(FACTS, orientation=orientation, width=size_px[0], height=size_px[1])


def where(pixels, value):
    y, x = np.nonzero(pixels == value)
    return [float(x.min()), float(y.min()), float(x.max() + 1), float(y.max() + 1)]


def test_row_fits_the_schema_and_comes_back():
    box = Box("cat", (1, 2, 3.5, 4), is_crowd=True, polygons=((1, 2, 3, 4, 5, 6),), rle="abc", keypoints=(1, 2, 2))
    full = row_of(record(boxes=(box,), labels=("x", "y"), group="g", defects=("odd",)), FACTS, "val")
    bare = row_of(record(path="c.jpg"), replace(FACTS, defects=("2 frames",)), "train")
    empty = row_of(record(path="d.jpg", boxes=()), FACTS, "train")
    place = {"shard": "s", "offset": 512, "size": 9, "batch": 1}
    rows = pa.Table.from_pylist([{**r, **place} for r in (full, bare, empty)], index.schema_of([])).to_pylist()
    assert rows[0] == {**full, **place}
    assert rows[0]["objects"][0] == {
        "label": "cat",
        "bbox_xyxy": [1.0, 2.0, 3.5, 4.0],
        "is_crowd": True,
        "difficult": False,
        "truncated": False,
        "polygons": [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]],
        "rle": "abc",
        "keypoints": [1.0, 2.0, 2.0],
    }
    assert rows[1]["objects"] is None and rows[1]["defects"] == ["2 frames"]
    assert rows[2]["objects"] == []


def test_null_and_empty_objects_survive_parquet(tmp_path):
    rows = [row_of(record(boxes=boxes), FACTS, "train") for boxes in (None, (), (Box("a", (0, 0, 1, 1)),), None)]
    (tmp_path / "index").mkdir()
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows, index.SCHEMA), tmp_path / "index" / "x.parquet")
    assert [r["objects"] for r in index.read(tmp_path, ["objects"]).to_pylist()] == [r["objects"] for r in rows]


def test_key_is_of_place_and_bytes():
    assert index.key_of("a/b.jpg", "ff") == hashlib.sha256(b"a/b.jpg\0ff").hexdigest()[:16]
    assert index.key_of("a/c.jpg", "ff") != index.key_of("a/b.jpg", "ff") != index.key_of("a/b.jpg", "fe")


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": ("cat",)},
        {"boxes": ()},
        {"boxes": (Box("cat", (0, 0, 1, 1)),)},
        {"boxes": (Box("cat", (0, 0, 1, 1), difficult=True),)},
        {"group": "g"},
        {"size_px": (60, 40)},
        {"defects": ("box dropped",)},
    ],
)
def test_annotation_hash_sees(changes):
    assert index.annotation_hash(record(**changes)) != index.annotation_hash(record())


def test_annotation_hash_does_not_see_split_path_or_number_type():
    ints = record(boxes=(Box("cat", (0, 0, 1, 1)),), split="train")
    floats = record(boxes=(Box("cat", (0.0, 0.0, 1.0, 1.0)),), split="test", path="elsewhere.jpg")
    assert index.annotation_hash(ints) == index.annotation_hash(floats)


@pytest.mark.parametrize("orientation", range(5, 9))
def test_objects_of_the_stored_image_follow_it_upright(orientation):
    box = (10, 5, 25, 30)
    pixels = np.zeros(STORED_PX[::-1], np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = 1
    pixels[7, 12] = 2  # a joint: its pixel spans 12..13, 7..8
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(pixels)
    image.info["exif"] = exif.tobytes()
    upright = np.asarray(ImageOps.exif_transpose(image))
    corners = (10, 5, 25, 5, 25, 30, 10, 30)
    thing = Box("cat", box, polygons=(corners,), keypoints=(12.5, 7.5, 2, 0, 0, 0))
    row = row_of(record(boxes=(thing,), size_px=STORED_PX), turned(orientation), "train")
    (turned_thing,) = row["objects"]
    assert turned_thing["bbox_xyxy"] == where(upright > 0, True)
    joint = where(upright, 2)
    assert turned_thing["keypoints"] == [joint[0] + 0.5, joint[1] + 0.5, 2.0, 0.0, 0.0, 0.0]
    x, y = turned_thing["polygons"][0][::2], turned_thing["polygons"][0][1::2]
    assert [min(x), min(y), max(x), max(y)] == turned_thing["bbox_xyxy"]
    assert row["defects"] == [f"objects turned upright with the image (EXIF orientation {orientation})"]


def test_inverted_box_stays_inverted_when_turned():
    row = row_of(record(boxes=(Box("cat", (25, 5, 10, 30)),), size_px=STORED_PX), turned(6), "train")
    x0, y0, x1, y1 = row["objects"][0]["bbox_xyxy"]
    assert x0 < x1 and y0 > y1


@pytest.mark.parametrize("size_px", [None, STORED_PX[::-1]])
def test_objects_of_the_upright_image_stay(size_px):
    row = row_of(record(boxes=(Box("cat", (1, 2, 3, 4)),), size_px=size_px), turned(6), "train")
    assert row["objects"][0]["bbox_xyxy"] == [1, 2, 3, 4] and row["defects"] == []


@pytest.mark.parametrize("orientation", range(5, 9))
def test_masks_of_the_stored_image_follow_it_upright(orientation):
    pixels = np.random.default_rng(orientation).random(STORED_PX[::-1]) < 0.3
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(pixels.astype(np.uint8))
    image.info["exif"] = exif.tobytes()
    upright = np.asarray(ImageOps.exif_transpose(image)) > 0
    thing = Box("cat", (1, 2, 3, 4), rle=run_lengths.encoded(pixels)["counts"])
    row = row_of(record(boxes=(thing,), size_px=STORED_PX), turned(orientation), "train")
    found = run_lengths.decoded({"size": [60, 40], "counts": row["objects"][0]["rle"]})
    assert (found == upright).all()
    assert row["defects"] == [f"objects turned upright with the image (EXIF orientation {orientation})"]


@pytest.mark.parametrize(("size_px", "facts"), [(STORED_PX, turned(6)), ((61, 40), FACTS)])
def test_masks_that_do_not_fill_the_image_are_dropped_aloud(size_px, facts):
    whole = run_lengths.encoded(np.ones(STORED_PX[::-1], bool))["counts"]
    things = [Box("cat", (1, 2, 3, 4), rle="abc"), Box("cat", (1, 2, 3, 4), rle=whole), Box("cat", (1, 2, 3, 4))]
    row = row_of(record(boxes=things, size_px=size_px), facts, "train")
    assert [bool(thing["rle"]) for thing in row["objects"]] == [False, True, False]
    assert row["defects"][-1] == "1 masks dropped: their run lengths do not fill 60x40 pixels"


def test_wrong_claim_is_a_defect():
    row = row_of(record(boxes=(Box("cat", (1, 2, 3, 4)),), size_px=(61, 40)), FACTS, "train")
    assert row["defects"] == ["annotation claims 61x40 pixels, the image has 60x40"]
    assert row["objects"][0]["bbox_xyxy"] == [1, 2, 3, 4]


def test_box_outside_is_kept_for_validate():
    row = row_of(record(boxes=(Box("cat", (-5, 0, 999, 4)),)), FACTS, "train")
    assert row["objects"][0]["bbox_xyxy"] == [-5, 0, 999, 4] and row["defects"] == []


def write(folder, name, *samples):
    rows = [dict.fromkeys(index.SCHEMA.names) | sample for sample in samples]
    (folder / "index").mkdir(exist_ok=True)
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows, index.SCHEMA), folder / "index" / f"{name}.parquet")


def known_sample(key, annotation="1" * 16, split="train", shard="s1", batch=1):
    return {"key": key, "annotation_hash": annotation, "split": split, "shard": shard, "batch": batch}


def test_known(tmp_path):
    a, b, c = "0" * 15 + "a", "f" * 16, "8" * 16
    write(tmp_path, "s1", known_sample(b), known_sample(a, split="val"))
    write(tmp_path, "s2", known_sample(b, "2" * 16, shard="s2", batch=3))
    known = index.Known(tmp_path)
    assert known.last_batch == 3
    assert known.get(a) == index.Held(frozenset({("1" * 16, "val")}), ("s1",))
    assert known.get(b).said == {("1" * 16, "train"), ("2" * 16, "train")}, "merged branches that disagree"
    assert sorted(known.get(b).shards) == ["s1", "s2"]
    assert known.get(c) is None


def test_known_of_nothing(tmp_path):
    known = index.Known(tmp_path)
    assert known.last_batch == 0 and known.get("0" * 16) is None and known.get("f" * 16) is None
