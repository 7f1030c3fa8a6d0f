"""stages/data/formats/pennfudan.py."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.data import run_lengths
from stages.data.formats.pennfudan import read
from stages.data.records import Record, Rejected

HEAD = "# Compatible with PASCAL Annotation Version 1.00\nImage size (X x Y x C) : {} x {} x 3\n"
BOX = 'Bounding box for object {} "PASperson{}" (Xmin, Ymin) - (Xmax, Ymax) : ({}, {}) - ({}, {})\n'


def write(
    root: Path, name: str, boxes: list[tuple[Any, ...]], mask: Any = None, size: tuple[int, int] = (8, 6)
) -> Path:
    """One image with its annotation: (number, posture, xmin, ymin, xmax, ymax) of each object."""
    for folder in ("PNGImages", "PedMasks", "Annotation"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6)).save(root / f"PNGImages/{name}.png")
    (root / f"Annotation/{name}.txt").write_text(HEAD.format(*size) + "".join(BOX.format(*box) for box in boxes))
    if mask is not None:
        Image.fromarray(np.asarray(mask, np.uint8)).save(root / f"PedMasks/{name}_mask.png")
    return root


def numbered(*squares: tuple[int, int, int, int, int]) -> np.ndarray:
    pixels = np.zeros((6, 8), np.uint8)
    for number, x1, y1, x2, y2 in squares:
        pixels[y1:y2, x1:x2] = number
    return pixels


def only(root: Path) -> Record:
    (item,) = read(root).records()
    assert isinstance(item, Record)
    return item


def test_real_data(shared_data: Path) -> None:
    root = shared_data / "pennfudan"
    source = read(root)
    items = list(source.records())
    assert source.task == "detection" and list(source.classes) == ["pedestrian"]
    assert source.notes == (
        "all objects are of class pedestrian; the source calls them PASpersonStanding 6, PASpersonWalking 82",
    )
    assert len(items) == 30 and all(isinstance(item, Record) and item.split is None for item in items)
    assert not any(item.defects for item in items)
    for item in items:
        numbers = np.asarray(Image.open(root / f"PedMasks/{Path(item.path).stem}_mask.png"))
        assert len(item.boxes) == numbers.max()  # PROVENANCE.md: checked on all 170
        for number, box in enumerate(item.boxes, start=1):
            rle = {"size": list(numbers.shape), "counts": box.rle}
            assert (run_lengths.decoded(rle) == (numbers == number)).all()
            # Two boxes of PennPed00010 are a pixel wider than their masks.
            assert np.abs(np.subtract(run_lengths.box_xyxy(rle), box.xyxy)).max() <= 1


def test_boxes_count_from_one_with_both_ends_inside(tmp_path: Path) -> None:
    pixels = numbered((1, 2, 1, 5, 4), (2, 6, 0, 8, 6))
    item = only(write(tmp_path, "a", [(1, "Walking", 3, 2, 5, 4), (2, "Standing", 7, 1, 8, 6)], pixels))
    assert [box.xyxy for box in item.boxes] == [(2, 1, 5, 4), (6, 0, 8, 6)]
    assert item.size_px == (8, 6) and item.defects == ()
    assert (run_lengths.decoded({"size": [6, 8], "counts": item.boxes[0].rle}) == (pixels == 1)).all()


@pytest.mark.parametrize(
    ("boxes", "pixels", "defect", "has_mask"),
    [
        ([(1, "Walking", 3, 2, 5, 4)], None, "PedMasks/a_mask.png is missing: boxes without masks", [False]),
        ([(1, "Walking", 3, 2, 5, 4)], np.ones((5, 8)), "a_mask.png is 8x5, not 8x6: boxes without", [False]),
        ([(1, "Walking", 3, 2, 5, 4)], np.ones((6, 8, 3)), "a_mask.png is RGB, not an index of objects", [False]),
        ([(1, "Walking", 3, 2, 5, 4)], numbered((2, 0, 0, 2, 2)), "object 1 has no pixel in the mask: kept", [False]),
        (
            [(1, "Walking", 1, 1, 2, 2)],
            numbered((1, 0, 0, 2, 2), (3, 4, 4, 6, 6)),
            "mask values 3 belong to no",
            [True],
        ),
        ([(1, "Walking", 5, 5, 4, 5)], numbered((1, 0, 0, 2, 2)), "object 1 has a box without area: dropped", []),
    ],
)
def test_what_does_not_fit_is_told(
    tmp_path: Path, boxes: list[Any], pixels: Any, defect: str, has_mask: list[bool]
) -> None:
    item = only(write(tmp_path, "a", boxes, pixels))
    assert any(defect in said for said in item.defects)
    assert [bool(box.rle) for box in item.boxes] == has_mask


def test_a_mask_that_is_no_image_costs_only_the_masks(tmp_path: Path) -> None:
    write(tmp_path, "a", [(1, "Walking", 3, 2, 5, 4)])
    (tmp_path / "PedMasks/a_mask.png").write_bytes(b"no image")
    assert "can't be read" in only(tmp_path).defects[0]


def test_an_image_without_pedestrians_stays(tmp_path: Path) -> None:
    item = only(write(tmp_path, "a", [], numbered()))
    assert item.boxes == () and item.defects == ()


def test_what_has_no_partner_is_reported(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path, name, [], numbered())
    (tmp_path / "PNGImages/a.png").unlink()
    (tmp_path / "Annotation/c.txt").unlink()
    (tmp_path / "readme.txt").write_text("not an annotation")
    items = list(read(tmp_path).records())
    assert [(item.path, item.reason) for item in items if isinstance(item, Rejected)] == [
        ("Annotation/a.txt", "annotation without image"),
        ("PNGImages/c.png", "image without annotation"),
    ]
    assert [item.path for item in items] == ["Annotation/a.txt", "PNGImages/b.png", "PNGImages/c.png"]


def test_another_text_is_reported_and_alone_refused(tmp_path: Path) -> None:
    write(tmp_path, "a", [])
    (tmp_path / "Annotation/a.txt").write_text("0 0.5 0.5 0.1 0.1")
    with pytest.raises(ValueError, match="none of the texts in Annotation is a PASCAL Annotation Version"):
        read(tmp_path)
    write(tmp_path, "b", [])
    found = {item.path: getattr(item, "reason", "") for item in read(tmp_path).records()}
    assert found == {"Annotation/a.txt": "not a PASCAL Annotation Version 1.00", "PNGImages/b.png": ""}
