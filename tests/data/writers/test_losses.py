"""stages/data/writers/_losses.py: whatever a file does not give back is counted, under its name."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stages.data import masks
from stages.data.dataset import Description
from stages.data.index import SCHEMA, object_row
from stages.data.records import VOID, Blob, Box, Mask, Record, Rejected, Source
from stages.data.writers._losses import in_words, losses
from stages.data.writers._samples import COLUMNS, Samples

BOX = Box(
    "cat", (1.0, 2.0, 3.0, 4.0), difficult=True, truncated=True, polygons=((1.0, 2.0, 3.0, 2.0, 3.0, 4.0),),
    keypoints=(1.0, 2.0, 2.0),
)  # fmt: skip
CROWD = Box("dog", (0.0, 0.0, 9.0, 9.0), is_crowd=True, rle="x")
RECORD = Record("f/1.png", Blob(Path("1.png")), "train", labels=("cat",), boxes=(BOX, CROWD), group="film")
ABOUT = Description("detection", {"cat": "house cat", "dog": "dog"}, ("nose",), ((0, 0),), "mine", "https://x.y")
SOURCE = Source(
    "detection", ABOUT.classes, lambda: iter([RECORD]), ABOUT.skeleton, ABOUT.skeleton_edges, "mine", "https://x.y"
)


def nothing_there(shard: str, offset: int, size: int) -> bytes:
    raise AssertionError("there is no mask")


def samples() -> Samples:
    row = dict.fromkeys(SCHEMA.names) | {"key": "0" * 16, "format": "PNG", "split": "train", "labels": ["cat"]}
    row |= {"objects": [object_row(box) for box in (BOX, CROWD)], "group": "film", "source": "1.png"}
    return Samples(pa.Table.from_pylist([row], schema=SCHEMA).select(COLUMNS), nothing_there, lambda row: "f")


def lost(source: Source = SOURCE, keeps: Callable[[Any], bool] = lambda thing: True) -> dict[str, int]:
    return losses(samples(), source, ABOUT, keeps)


def given(**changes: Any) -> Source:
    """The source when its record is another."""
    return replace(SOURCE, records=lambda: iter([replace(RECORD, **changes)]))


def boxed(**changes: Any) -> Source:
    return given(boxes=(replace(BOX, **changes), CROWD))


def test_nothing_is_lost_where_all_is_there() -> None:
    assert lost() == {}
    assert lost(boxed(xyxy=(1.0, 2.0, 3.0 + 1e-12, 4.0))) == {}


LOST = {
    "labels of images": given(labels=()),
    "splits of images": given(split=None),
    "groups of images": given(group=None),
    "objects that can't be read back": given(boxes=(BOX,)),
    "images that can't be read back": replace(SOURCE, records=lambda: iter([Rejected("f/1.png", "broken")])),
    "labels of objects": boxed(label="dog"),
    "boxes, by at most 0.001 pixels": boxed(xyxy=(1.0, 2.0, 3.0, 4.0001)),
    "boxes, by at most 1 pixels": boxed(xyxy=(1.0, 2.0, 3.0, 4.5)),
    "boxes, by more than 1 pixel": boxed(xyxy=(1.0, 2.0, 3.0, 40.0)),
    "difficult flags": boxed(difficult=False),
    "truncated flags": boxed(truncated=False),
    "crowd flags that were not there": boxed(is_crowd=True),
    "polygons": boxed(polygons=()),
    "masks of run lengths that were not there": boxed(rle="x"),
    "keypoints": boxed(keypoints=(1.0, 2.5, 2.0)),
    "masks of run lengths": given(boxes=(BOX, replace(CROWD, rle=None))),
    "crowd flags": given(boxes=(BOX, replace(CROWD, is_crowd=False))),
    "names of classes for people": replace(SOURCE, classes={"cat": "cat", "dog": "dog"}),
    "the order of the classes": replace(SOURCE, classes={"dog": "dog", "cat": "house cat"}),
    "classes without an object": replace(SOURCE, classes={"cat": "house cat"}),
    "the skeleton": replace(SOURCE, skeleton=()),
    "the edges of the skeleton": replace(SOURCE, skeleton_edges=()),
    "the licence": replace(SOURCE, licence=""),
    "the origin": replace(SOURCE, origin="elsewhere"),
}


@pytest.mark.parametrize("what", LOST)
def test_each_loss_has_its_name(what: str) -> None:
    assert lost(LOST[what]) == {what: 1}


def test_objects_that_a_format_leaves_out_by_design() -> None:
    assert lost(given(boxes=(BOX,)), keeps=lambda thing: not thing["is_crowd"]) == {"crowds": 1}


def test_joints_that_nobody_labelled_are_no_loss() -> None:
    record = replace(RECORD, boxes=(replace(BOX, keypoints=()), CROWD))
    row = samples().table.to_pylist()[0]
    row["objects"][0]["keypoints"] = [0.0, 0.0, 0.0]
    table = pa.Table.from_pylist([dict.fromkeys(SCHEMA.names) | row], schema=SCHEMA).select(COLUMNS)
    found = Samples(table, nothing_there, lambda r: "f")
    source = replace(SOURCE, records=lambda: iter([record]))
    assert losses(found, source, ABOUT, lambda thing: True) == {}


@pytest.mark.parametrize(
    ("pixels", "names", "num_lost"),
    [
        ([[0, 1], [1, 255]], {0: "cat", 1: "dog"}, 0),
        ([[4, 1], [1, 7]], {1: "dog", 4: "cat"}, 0),
        ([[0, 1], [1, 1]], {0: "cat", 1: "dog"}, 1),
        ([[0, 1], [1, 255]], {0: "cat", 1: "cat"}, 1),
        ([[0, 1], [1, 255]], {0: "cat"}, 1),
        ([[0, 1, 1, 255]], {0: "cat", 1: "dog"}, 1),
        (None, {}, 1),
    ],
)
def test_masks_are_compared_by_the_names_of_their_pixels(
    pixels: list[list[int]] | None, names: dict[int, str], num_lost: int, tmp_path: Path
) -> None:
    held = masks.encoded(np.array([[0, 1], [1, VOID]], np.uint8))
    row = samples().table.to_pylist()[0] | {"mask_offset": 7, "mask_size": 9, "mask_labels": ["cat", "dog"]}
    table = pa.Table.from_pylist([dict.fromkeys(SCHEMA.names) | row], schema=SCHEMA).select(COLUMNS)
    found = Samples(table, lambda *place: {(None, 7, 9): held}[place], lambda r: "f")
    (tmp_path / "1.png").write_bytes(masks.encoded(np.array(pixels or [[]], np.uint8)) if pixels else b"")
    mask = Mask(Blob(tmp_path / "1.png"), names) if pixels else None
    source = replace(SOURCE, records=lambda: iter([replace(RECORD, mask=mask)]))
    assert losses(found, source, ABOUT, lambda thing: True).get("masks", 0) == num_lost


def test_words() -> None:
    assert in_words({"crowds": 1300, "the licence": 1}) == "1,300 crowds, the licence"
