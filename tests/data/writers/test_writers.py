"""stages/data/writers: each file as an independent reader of that format sees it."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as masks
from pycocotools.coco import COCO
from ruamel.yaml import YAML

from stages.data import formats
from stages.data.dataset import Dataset, Description
from stages.data.writers import writer_of
from stages.data.writers._samples import COLUMNS, Sample, Samples
from stages.data.writers.coco import _extent
from stages.params.formats import read_at_ingest, written_by_export

WIDTH, HEIGHT = 101, 77
POLYGONS = [[10.5, 10.5, 40.5, 10.5, 40.5, 50.5, 10.5, 50.5], [60.0, 60.0, 70.0, 60.0, 65.0, 70.0]]
CLASSES = {"cat": "house cat", "dog": "dog"}


def thing(label: str, *xyxy: float, **changes: Any) -> dict[str, Any]:
    plain = {"is_crowd": False, "difficult": False, "truncated": False, "polygons": [], "rle": None, "keypoints": []}
    return {"label": label, "bbox_xyxy": list(xyxy), **plain, **changes}


def crowd() -> dict[str, Any]:
    area = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    area[5:20, 30:50] = 1
    return thing("dog", 30.0, 5.0, 50.0, 20.0, is_crowd=True, rle=masks.encode(area)["counts"].decode())


THINGS = [
    thing("cat", 10.5, 10.5, 70.0, 70.0, polygons=POLYGONS, truncated=True),
    crowd(),
    thing("dog", 1.0, 2.0, 4.0, 6.25),
]


def sample(folder: str, *things: dict[str, Any], split: str = "train") -> Sample:
    row = {"split": split, "labels": [], "objects": list(things), "group": None, "mode": "RGB", "key": "0" * 16}
    return Sample(f"{folder}/1.jpg", row | {"width": WIDTH, "height": HEIGHT, "format": "JPEG", "source": "1.jpg"})


def written(fmt: str, folder: Path, *things: dict[str, Any], joints: tuple[str, ...] = ()) -> Path:
    writer = writer_of(fmt)
    place = writer.place(sample("", *things).row)
    edges = tuple((i, i + 1) for i in range(len(joints) - 1))
    writer.write(folder, [sample(str(place), *things)], Description("detection", CLASSES, joints, edges))
    return folder


def test_what_is_written_is_read_too() -> None:
    assert {*written_by_export()} <= {*read_at_ingest()}
    with pytest.raises(ValueError, match="format 'cifar' can't be written: use one of coco"):
        writer_of("cifar")


def test_pycocotools_reads_boxes_masks_and_areas(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco = COCO(written("coco", tmp_path, *THINGS) / "annotations/instances_train.json")
    outlined, crowd_, box = coco.loadAnns(sorted(coco.getAnnIds()))
    assert [entry["iscrowd"] for entry in (outlined, crowd_, box)] == [0, 1, 0]
    assert outlined["bbox"] == [10.5, 10.5, 59.5, 59.5] and box["bbox"] == [1.0, 2.0, 3.0, 4.25]
    assert crowd_["area"] == coco.annToMask(crowd_).sum() == 15 * 20
    assert coco.annToMask(crowd_)[5:20, 30:50].all()
    assert outlined["area"] == 30 * 40 + 50
    assert abs(coco.annToMask(outlined).sum() - outlined["area"]) < 90  # pixels along the outlines
    assert box["area"] == 3 * 4.25
    assert [c["name"] for c in coco.loadCats(sorted(coco.getCatIds()))] == ["cat", "dog"]
    assert coco.loadImgs(1) == [{"id": 1, "file_name": "1.jpg", "width": WIDTH, "height": HEIGHT}]


def test_joints_of_coco_stand_with_the_classes_that_have_some(tmp_path: Path) -> None:
    person = thing("dog", 1.0, 2.0, 4.0, 6.0, keypoints=[1.5, 2.5, 2.0, 0.0, 0.0, 0.0, 3.0, 3.0, 1.0])
    coco = COCO(written("coco", tmp_path, person, joints=("a", "b", "c")) / "annotations/instances_train.json")
    cat, dog = coco.loadCats([1, 2])
    assert "keypoints" not in cat
    assert (dog["keypoints"], dog["skeleton"]) == (["a", "b", "c"], [[1, 2], [2, 3]])
    assert coco.loadAnns(1)[0]["num_keypoints"] == 2


def test_an_edge_of_coco_comes_back_from_its_width() -> None:
    """Whatever the numbers, the edge is at most one bit beside; with two decimals, as in COCO's own files, exact."""
    rng = np.random.default_rng(0)
    for start, width in rng.uniform(0, 600, (2000, 2)).tolist():
        end = start + width
        assert abs(start + _extent(start, end) - end) <= np.spacing(end)
        whole = round(start, 2), round(start, 2) + round(width, 2)
        assert whole[0] + _extent(*whole) == whole[1]


def test_voc_as_the_standard_library_reads_it(tmp_path: Path) -> None:
    root = ElementTree.parse(written("voc", tmp_path, *THINGS) / "Annotations/1.xml").getroot()
    assert [root.findtext(path) for path in ("filename", "size/width", "size/height", "size/depth")] == [
        "1.jpg",
        "101",
        "77",
        "3",
    ]
    told = [[o.findtext(f"bndbox/{edge}") for edge in ("xmin", "ymin", "xmax", "ymax")] for o in root.iter("object")]
    assert told == [["10.5", "10.5", "70", "70"], ["30", "5", "50", "20"], ["1", "2", "4", "6.25"]]
    flags = [(o.findtext("name"), o.findtext("truncated"), o.findtext("difficult")) for o in root.iter("object")]
    assert flags == [("cat", "1", "0"), ("dog", "0", "1"), ("dog", "0", "0")]
    assert (tmp_path / "ImageSets/Main/train.txt").read_text() == "1\n"


def by_floats(line: str) -> tuple[int, np.ndarray]:
    """As most tools read a line: binary fractions, multiplied."""
    label, *values = line.split()
    return int(label), np.array(values, float)


def test_yolo_boxes_as_other_tools_read_them(tmp_path: Path) -> None:
    plain = [thing("cat", 1 / 3, 2.0, 50.7, 60.0), thing("dog", 0.0, 0.0, WIDTH, HEIGHT)]
    lines = (written("yolo", tmp_path, *plain) / "labels/train/1.txt").read_text().splitlines()
    assert lines[1] == "1 0.5 0.5 1 1"
    for line, given in zip(lines, plain, strict=True):
        label, (cx, cy, w, h) = by_floats(line)
        assert list(CLASSES)[label] == given["label"]
        edges = np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]) * [WIDTH, HEIGHT, WIDTH, HEIGHT]
        assert edges == pytest.approx(given["bbox_xyxy"], abs=1e-12)
    config = YAML(typ="safe").load(tmp_path / "data.yaml")
    assert config == {"path": ".", "train": "images/train", "nc": 2, "names": {0: "cat", 1: "dog"}}


def test_yolo_outlines_as_other_tools_read_them(tmp_path: Path) -> None:
    lines = (written("yolo", tmp_path, *THINGS) / "labels/train/1.txt").read_text().splitlines()
    assert len(lines) == 2  # no crowd
    first, second = (by_floats(line)[1].reshape(-1, 2) * [WIDTH, HEIGHT] for line in lines)
    rings = [np.array(part).reshape(-1, 2) for part in POLYGONS]
    assert first == pytest.approx(np.concatenate([part for ring in rings for part in (ring, ring[:1])]), abs=1e-12)
    assert second == pytest.approx(np.array([[1, 2], [4, 2], [4, 6.25], [1, 6.25]]), abs=1e-12)


def test_yolo_joints_have_as_many_columns_in_each_line(tmp_path: Path) -> None:
    posed = thing("dog", 1.0, 2.0, 4.0, 6.0, keypoints=[1.5, 2.5, 2.0, 0.0, 0.0, 0.0], polygons=POLYGONS)
    written("yolo", tmp_path, posed, THINGS[2], joints=("nose", "tail"))
    lines = (tmp_path / "labels/train/1.txt").read_text().splitlines()
    assert [len(line.split()) for line in lines] == [11, 11]
    config = YAML(typ="safe").load(tmp_path / "data.yaml")
    assert (config["kpt_shape"], config["kpt_names"]) == ([2, 3], {0: ["nose", "tail"]})


def test_an_image_without_objects_has_an_empty_text_file(tmp_path: Path) -> None:
    assert (written("yolo", tmp_path) / "labels/train/1.txt").read_text() == ""


@pytest.mark.parametrize("fmt", ["coco", "voc", "yolo"])
def test_names_that_yaml_or_xml_could_mistake(tmp_path: Path, fmt: str, ingested: Callable[..., Dataset]) -> None:
    labels = ["no", "1", "null", "a: b", "# c", "'q'", "{x}", "é", "&amp;", "~", "0x1F", "1e3"]
    dataset = ingested([thing(label, 1.0, 2.0, 4.0, 6.0) for label in labels], labels)
    writer = writer_of(fmt)
    samples = Samples(dataset.table(columns=COLUMNS), dataset.read, writer.place)
    writer.write(tmp_path / "out", samples, dataset.description)
    for written_sample in samples:
        (tmp_path / "out" / written_sample.path).parent.mkdir(parents=True, exist_ok=True)
        row = written_sample.row
        (tmp_path / "out" / written_sample.path).write_bytes(dataset.read(row["shard"], row["offset"], row["size"]))
    (record,) = formats.open_source(fmt, tmp_path / "out").records()
    assert [box.label for box in record.boxes] == labels


@pytest.fixture
def ingested(tmp_path: Path) -> Callable[..., Dataset]:
    """Objects and classes -> a dataset of one image."""
    from stages.data.records import Blob, Box, Record, Source
    from stages.ingest import ingest

    def make(things: list[dict[str, Any]], labels: list[str]) -> Dataset:
        data = io.BytesIO()
        Image.new("RGB", (WIDTH, HEIGHT)).save(data, "PNG")
        (tmp_path / "1.png").write_bytes(data.getvalue())
        (tmp_path / "out").mkdir()
        boxes = tuple(Box(t["label"], tuple(t["bbox_xyxy"])) for t in things)
        record = Record("1.png", Blob(tmp_path / "1.png"), "train", boxes=boxes)
        source = Source("detection", {label: label for label in labels}, lambda: iter([record]))
        ingest(tmp_path / "data", source, progress=False, workers=1)
        return Dataset(tmp_path / "data")

    return make
