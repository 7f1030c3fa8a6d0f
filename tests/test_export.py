"""The stage `export`: all that the lines ask for, or an error that names the file and nothing half-written."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from stages import export
from stages.data import formats, run_lengths
from stages.data.records import Record

ROOT = Path(__file__).parents[1]
BOX = {"label": "dust", "score": 0.75, "box_xyxy": [10.5, 20.25, 40.0, 60.0]}


def lines(*rows: dict[str, Any], **settings: Any) -> io.StringIO:
    first = {"classes": ["cell", "dust"], "min_score": 0.5, **settings}
    return io.StringIO("".join(json.dumps(row) + "\n" for row in (first, *rows)))


def photo(path: Path, orientation: int = 1) -> str:
    """A grey photo that is stored 120 x 80 pixels."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.full((80, 120, 3), 128, np.uint8)).save(path, exif=exif)
    return str(path)


def test_boxes_become_a_coco_file_that_others_read_and_pictures(tmp_path: Path) -> None:
    first = {"file": photo(tmp_path / "a.jpg"), "name": "a.jpg", "answer": {"boxes": [BOX, BOX | {"score": 0.2}]}}
    turned = {"file": photo(tmp_path / "b.jpg", 6), "name": "more/b.jpg", "answer": {"boxes": []}}
    first["picture"] = str(tmp_path / "drawn/deep/a.png")
    export.export(lines(first, turned, coco=str(tmp_path / "found.json")))
    coco = COCO(str(tmp_path / "found.json"))
    sizes = {image["file_name"]: (image["width"], image["height"]) for image in coco.dataset["images"]}
    assert sizes == {"a.jpg": (120, 80), "more/b.jpg": (80, 120)}  # upright, as the boxes are
    rows = coco.loadAnns(coco.getAnnIds(imgIds=[1], catIds=coco.getCatIds(["dust"])))
    assert [(row["bbox"], row["score"]) for row in rows] == [([10.5, 20.25, 29.5, 39.75], s) for s in (0.75, 0.2)]
    assert len(coco.loadRes(coco.dataset["annotations"]).anns) == 2
    assert Image.open(tmp_path / "drawn/deep/a.png").size == (640, 427)


def test_masks_become_a_coco_file_that_others_score_and_ingest(tmp_path: Path) -> None:
    pixels = np.zeros((80, 120), bool)
    pixels[30:50, 12:35] = True
    answer = {
        "boxes": [
            BOX | {"mask": run_lengths.encoded(pixels)},
            BOX | {"mask": run_lengths.encoded(pixels), "score": 0.2},
        ]
    }
    row = {"file": photo(tmp_path / "a.jpg"), "name": "a.jpg", "answer": answer, "picture": str(tmp_path / "a.png")}
    export.export(lines(row, coco=str(tmp_path / "found.json")))
    coco = COCO(str(tmp_path / "found.json"))
    first = coco.loadAnns([1])[0]
    assert (coco.annToMask(first) == pixels).all() and first["area"] == 20 * 23
    assert first["bbox"] == [10.5, 20.25, 29.5, 39.75]
    assert len(coco.loadRes(coco.dataset["annotations"]).anns) == 2
    drawn = np.asarray(Image.open(tmp_path / "a.png")).astype(int)
    scale = drawn.shape[1] / 120
    inside, box_only = drawn[int(45 * scale), int(20 * scale)], drawn[int(55 * scale), int(20 * scale)]
    assert np.abs(inside - 128).max() > 20 and np.abs(box_only - 128).max() <= 2
    told = json.loads((tmp_path / "found.json").read_text())
    (tmp_path / "found.json").write_text(json.dumps({**told, "info": {"labelled": True}}))
    (tmp_path / "a.png").unlink()
    (record,) = formats.open_source("coco", tmp_path).records()
    assert record.boxes[0].rle == run_lengths.encoded(pixels)["counts"] and not record.defects


def test_labels_and_boxes_that_nobody_corrected_are_no_dataset(tmp_path: Path) -> None:
    """Once they say that they are labelled they are one: of whole images, where the answers had no boxes."""
    for name, answer in {
        "labels": {"label": "dust", "score": 0.75, "scores": {"cell": 0.25, "dust": 0.75}, "uncertainty": 0.25},
        "boxes": {"boxes": [BOX]},
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        row = {"file": photo(folder / "a.jpg"), "name": "a.jpg", "answer": answer}
        export.export(lines(row, coco=str(folder / "task.json")))
        with pytest.raises(ValueError, match=r"task\.json holds answers of a model: correct them, then set labelled"):
            formats.open_source("coco", folder)
        told = json.loads((folder / "task.json").read_text())
        assert told["images"][0].get("uncertainty") == answer.get("uncertainty")
        (folder / "task.json").write_text(json.dumps({**told, "info": {"labelled": True}}))
    source = formats.open_source("coco", tmp_path / "labels")
    (record,) = source.records()
    assert (source.task, list(source.classes)) == ("classification", ["cell", "dust"])
    assert (record.labels, record.boxes) == (("dust",), None)
    source = formats.open_source("coco", tmp_path / "boxes")
    (record,) = source.records()
    assert (source.task, [box.xyxy for box in record.boxes]) == ("detection", [tuple(BOX["box_xyxy"])])


def test_segments_become_run_lengths_index_pngs_and_pictures(tmp_path: Path) -> None:
    classes = np.full((80, 120), 255, np.uint8)
    classes[10:30, 20:50] = 1
    segment = {
        "label": "dust", "score": 0.75, "share": 600 / 9600, "segmentation": run_lengths.encoded(classes == 1),
    }  # fmt: skip
    answer = {"height": 80, "width": 120, "segments": [segment]}
    row = {
        "file": photo(tmp_path / "a.jpg"),
        "name": "a.jpg",
        "answer": answer,
        "picture": str(tmp_path / "drawn/a.png"),
    }
    row |= {"mask": str(tmp_path / "masks/deep/a.png")}
    export.export(lines(row, coco=str(tmp_path / "found.json"), masks=str(tmp_path / "masks")))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "masks/deep/a.png")), classes)
    assert (tmp_path / "masks/classes.txt").read_text() == "cell\ndust\n"
    assert Image.open(tmp_path / "drawn/a.png").size == (640, 427 + 22)
    coco = COCO(str(tmp_path / "found.json"))
    (annotation,) = coco.loadAnns(coco.getAnnIds())
    assert (annotation["bbox"], annotation["area"], annotation["score"]) == ([20, 10, 30, 20], 600, 0.75)
    np.testing.assert_array_equal(coco.annToMask(annotation), classes == 1)


def test_several_labels_of_an_image_are_as_many_annotations(tmp_path: Path) -> None:
    given = [{"label": "dust", "score": 0.75}, {"label": "cell", "score": 0.5}]
    scores = {"dust": 0.75, "cell": 0.5}
    rows = [
        {"file": photo(tmp_path / f"{name}.jpg"), "name": f"{name}.jpg", "answer": {"labels": said, "scores": scores}}
        for name, said in (("a", given), ("b", []))
    ]
    rows[0]["picture"] = str(tmp_path / "drawn.png")
    export.export(lines(*rows, coco=str(tmp_path / "task.json")))
    told = json.loads((tmp_path / "task.json").read_text())
    assert [(a["image_id"], a["category_id"], a["score"]) for a in told["annotations"]] == [(1, 2, 0.75), (1, 1, 0.5)]
    assert len(told["images"]) == 2
    (tmp_path / "task.json").write_text(json.dumps({**told, "info": {"labelled": True}}))
    (tmp_path / "drawn.png").unlink()
    records = [item for item in formats.open_source("coco", tmp_path).records() if isinstance(item, Record)]
    assert [record.labels for record in records] == [("dust", "cell")]


SKELETON = {"joints": ["left_end", "right_end"], "edges": [[0, 1]]}
PERSON = BOX | {
    "joints": {"left_end": {"x": 12.0, "y": 50.0, "score": 0.9}, "right_end": {"x": 38, "y": 24, "score": 0.4}}
}


def test_joints_are_drawn_and_come_back_once_somebody_corrected_them(tmp_path: Path) -> None:
    for name, box in {"plain": BOX, "joints": PERSON}.items():
        row = {"file": photo(tmp_path / "a.jpg"), "name": "a.jpg", "answer": {"boxes": [box]}}
        export.export(
            lines(row | {"picture": str(tmp_path / f"{name}.png")}, skeleton=SKELETON, coco=str(tmp_path / "x"))
        )
        told = json.loads((tmp_path / "x").read_text())
        (tmp_path / name).mkdir()
        photo(tmp_path / name / "a.jpg")
        (tmp_path / name / "task.json").write_text(json.dumps({**told, "info": {"labelled": True}}))
    plain, drawn = (np.asarray(Image.open(tmp_path / f"{name}.png"), int) for name in ("plain", "joints"))
    x, y = round(25 * 640 / 120), round(37 * 640 / 120)  # in the middle of the bone
    assert (plain[y, x] == 128).all() and np.abs(drawn[y - 2 : y + 3, x - 2 : x + 3] - 128).max() > 60
    source = formats.open_source("coco", tmp_path / "joints")
    (record,) = source.records()
    assert (source.skeleton, source.skeleton_edges) == (("left_end", "right_end"), ((0, 1),))
    assert record.boxes[0].keypoints == (12, 50, 2, 38, 24, 2)
    assert formats.open_source("coco", tmp_path / "plain").skeleton == ()


def test_an_unreadable_image_is_named_and_the_old_file_stays(tmp_path: Path) -> None:
    (tmp_path / "found.json").write_text("old")
    (tmp_path / "broken.jpg").write_bytes(b"x")
    row = {"file": str(tmp_path / "broken.jpg"), "name": "broken.jpg", "answer": {"boxes": []}}
    text = lines(row, coco=str(tmp_path / "found.json")).getvalue()
    done = subprocess.run(
        [sys.executable, "-m", "stages.export"], input=text, cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n"), "broken.jpg: " in done.stderr) == (1, 1, True), done.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["broken.jpg", "found.json"]
    assert (tmp_path / "found.json").read_text() == "old"


def test_ended_early_it_leaves_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.export"], cwd=ROOT, stdin=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdin
    process.stdin.write(lines(coco=str(tmp_path / "found.json")).getvalue())
    process.stdin.flush()
    deadline = time.monotonic() + 60
    while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("size", "drawn"), [((50, 40), (640, 512)), ((1000, 500), (1000, 500)), ((3200, 10), (1600, 5))]
)
def test_pictures_have_a_size_to_look_at(size: tuple[int, int], drawn: tuple[int, int]) -> None:
    image = np.full((size[1], size[0], 3), 128, np.uint8)
    assert Image.open(io.BytesIO(export.draw(image, {"boxes": [BOX]}, ["cell", "dust"], 0.9))).size == drawn
