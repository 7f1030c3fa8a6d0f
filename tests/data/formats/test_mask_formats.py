"""Formats with masks: camvid, voc-segmentation, cityscapes, mask-png, coco-panoptic."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.data import formats
from stages.data.dataset import Dataset
from stages.data.formats._masks import read_colours, read_names
from stages.data.index import MASK_COLUMNS
from stages.data.records import VOID, Record, Rejected
from stages.data.samples import StoredImages
from stages.ingest import ingest
from stages.metrics.cityscapes import LABEL_IDS

PIXELS = np.array([[0, 1, 2, 255], [7, 1, 2, 3], [11, 11, 8, 26]], np.uint8)
COLOURS = {(64, 128, 64): "Animal", (0, 0, 0): "Void", (128, 0, 0): "Building"}


def save(root: Path, *paths: str, pixels: np.ndarray | None = None) -> Path:
    """Images at these paths: the pixels, or random ones."""
    for seed, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shown = pixels if pixels is not None else np.random.default_rng(seed).integers(0, 256, (3, 4, 3), np.uint8)
        Image.fromarray(shown).save(root / path)
    return root


def items(source):
    return {item.path: item for item in source.records()}


def rejected(source):
    return {item.path: item.reason for item in source.records() if isinstance(item, Rejected)}


def pairs(source):
    """Image -> mask."""
    return {p: item.mask.image.file.name for p, item in items(source).items() if isinstance(item, Record)}


def some(source, every: int):
    """A source with a part of its records."""
    return replace(source, records=lambda: iter(list(source.records())[::every]))


def stored(source, folder: Path):
    """Source path -> class numbers, as they come back from a dataset; and the report."""
    report = ingest(folder, source, split="train", progress=False, workers=1)
    dataset = Dataset(folder)
    images = StoredImages(dataset, "train", "source", *MASK_COLUMNS)
    return {images.value("source", i): images.mask(i, dataset.classes) for i in range(len(images))}, report


class TestRealData:
    def test_camvid_keeps_every_pixel_but_void(self, shared_data: Path, tmp_path: Path):
        root = shared_data / "camvid"
        source = formats.open_source("camvid", root)
        assert Counter(item.split for item in source.records()) == {"train": 40, "val": 14, "test": 14}
        assert source.notes == () and len(source.classes) == 11 and "Sky" in source.classes
        found, report = stored(some(source, 6), tmp_path / "camvid")
        assert report.added == 12 and report.rejected == []
        for path, numbers in found.items():
            split, name = path.split("/")
            raw = np.asarray(Image.open(root / f"{split}annot" / name))
            np.testing.assert_array_equal(numbers, np.where(raw == 11, VOID, raw))
        assert not any(Dataset(tmp_path / "camvid").table(columns=["defects"])["defects"].to_pylist())

    def test_semantic_and_panoptic_labels_of_the_same_images_agree(self, shared_data: Path, tmp_path: Path):
        """Two forms of one annotation: index PNGs with sparse ids up to 200, and panoptic segments."""
        root = shared_data / "coco128-yolo"
        semantic = formats.open_source("mask-png", root / "semantic_segmentation", root / "images")
        panoptic = formats.open_source("coco-panoptic", root / "panoptic_segmentation", root / "images")
        for source in (semantic, panoptic):
            assert Counter(item.split for item in source.records()) == {"train": 34, "val": 17}
            assert rejected(source) == {} and "unlabeled" not in source.classes
        assert (len(semantic.classes), len(panoptic.classes)) == (129, 133)
        (ours, first), (theirs, second) = (
            stored(some(source, 4), tmp_path / name)
            for name, source in (("semantic", semantic), ("panoptic", panoptic))
        )
        assert first.added == second.added == 13
        names, others = list(semantic.classes), list(panoptic.classes)
        same = total = 0
        for path, numbers in ours.items():
            a = np.array([*names, *[""] * (256 - len(names))])[numbers]
            b = np.array([*others, *[""] * (256 - len(others))])[theirs[path]]
            same, total = same + int((a == b).sum()), total + a.size
        assert same / total > 0.98

    def test_from_the_root_each_format_takes_its_own(self, shared_data: Path):
        root = shared_data / "coco128-yolo"
        for fmt, folder in (("mask-png", "semantic_segmentation/masks"), ("coco-panoptic", "panoptic_segmentation")):
            source = formats.open_source(fmt, root)
            masks = [item.mask.image.file for item in source.records() if isinstance(item, Record)]
            assert len(masks) == 51 and all(file.is_relative_to(root / folder) for file in masks)


class TestCamVid:
    def test_lists_with_folders_of_another_machine(self, tmp_path: Path):
        save(tmp_path, "train/a.png", "train/b.png", "train/alone.png", "val/a.png")
        save(tmp_path, "trainannot/a.png", "trainannot/b.png", "trainannot/c.png", "valannot/a.png", pixels=PIXELS)
        lines = [f"/SegNet/CamVid/train/{n}.png /SegNet/CamVid/trainannot/{n}.png" for n in ("a", "gone")]
        (tmp_path / "train.txt").write_text("\n".join(lines))
        source = formats.open_source("camvid", tmp_path)
        assert pairs(source) == {"train/a.png": "a.png", "train/b.png": "b.png", "val/a.png": "a.png"}
        assert rejected(source) == {
            "train/alone.png": "image without mask",
            "trainannot/c.png": "mask without image",
            "train/gone": "listed in train.txt, but not there",
        }
        assert source.notes == ("2 images of train are not in train.txt: taken as well",)
        assert items(source)["val/a.png"].split == "val"

    @pytest.mark.parametrize("layout", ["original", "kaggle"])
    def test_colours_become_names(self, layout: str, tmp_path: Path):
        colours = np.array([[(64, 128, 64), (0, 0, 0)], [(128, 0, 0), (1, 2, 3)]], np.uint8)
        photo = np.zeros((2, 2, 3), np.uint8)
        if layout == "original":
            save(tmp_path, "701_StillsRaw_full/0001TP_006690.png", pixels=photo)
            save(tmp_path, "LabeledApproved_full/0001TP_006690_L.png", pixels=colours)
            text = "".join(f"{r} {g} {b}\t\t{name}\n" for (r, g, b), name in COLOURS.items())
            (tmp_path / "label_colors.txt").write_text(text)
        else:
            save(tmp_path, "train/0001TP_006690.png", pixels=photo)
            save(tmp_path, "train_labels/0001TP_006690_L.png", pixels=colours)
            text = "".join(f"{name},{r},{g},{b}\n" for (r, g, b), name in COLOURS.items())
            (tmp_path / "class_dict.csv").write_text(f"name,r,g,b\n{text}")
        source = formats.open_source("camvid", tmp_path)
        (record,) = source.records()
        assert (record.split, record.group) == ((None, "0001TP") if layout == "original" else ("train", None))
        assert list(source.classes) == ["Animal", "Building"]
        found, _ = stored(source, tmp_path / "data")
        assert found[record.path].tolist() == [[0, VOID], [1, VOID]]
        (defects,) = Dataset(tmp_path / "data").table(columns=["defects"])["defects"].to_pylist()
        assert defects == ["mask has 1 pixels of value 197121, which has no name: ignored"]


class TestVoc:
    @pytest.fixture
    def kit(self, tmp_path: Path) -> Path:
        save(tmp_path, *(f"VOC2012/JPEGImages/{n}.jpg" for n in "abcd"))
        save(tmp_path, *(f"VOC2012/SegmentationClass/{n}.png" for n in "abx"), pixels=PIXELS % 21)
        save(tmp_path, "VOC2012/SegmentationObject/a.png", pixels=PIXELS)
        lists = tmp_path / "VOC2012/ImageSets/Segmentation"
        lists.mkdir(parents=True)
        (lists / "train.txt").write_text("a\n")
        (lists / "val.txt").write_text("b\nc\ngone\n")
        return tmp_path

    def test_images_without_mask_are_said_once(self, kit: Path):
        source = formats.open_source("voc-segmentation", kit)
        assert pairs(source) == {"VOC2012/JPEGImages/a.jpg": "a.png", "VOC2012/JPEGImages/b.jpg": "b.png"}
        assert {Path(p).stem: i.split for p, i in items(source).items() if isinstance(i, Record)} == {
            "a": "train", "b": "val",
        }  # fmt: skip
        assert rejected(source) == {
            "VOC2012/SegmentationClass/x.png": "mask without image",
            "VOC2012/JPEGImages/c.jpg": "listed in ImageSets/Segmentation/, but without mask",
            "VOC2012/JPEGImages/gone.jpg": "listed in ImageSets/Segmentation, but not there",
        }
        assert source.notes == ("2 images have no mask: left out",)
        assert list(source.classes)[:2] == ["background", "aeroplane"] and len(source.classes) == 21

    def test_the_border_is_void_and_the_background_a_class(self, kit: Path, tmp_path: Path):
        palette = Image.fromarray(PIXELS).convert("L")
        image = Image.frombytes("P", palette.size, np.array([[0, 1, 255, 20]] * 3, np.uint8).tobytes())
        image.putpalette([v for i in range(256) for v in (i, 0, 255 - i)])
        image.save(kit / "VOC2012/SegmentationClass/a.png")
        found, _ = stored(formats.open_source("voc-segmentation", kit), tmp_path / "data")
        assert found["VOC2012/JPEGImages/a.jpg"].tolist() == [[0, 1, VOID, 20]] * 3

    def test_own_classes_and_images_elsewhere(self, kit: Path, tmp_path: Path):
        (kit / "classes.txt").write_text("nothing\nvoid\ncell\n")
        (tmp_path / "photos").mkdir()
        (kit / "VOC2012/JPEGImages").rename(tmp_path / "photos" / "all")
        with pytest.raises(ValueError, match="name the folder that holds the images"):
            formats.open_source("voc-segmentation", kit / "VOC2012")
        source = formats.open_source("voc-segmentation", kit, tmp_path / "photos")
        assert list(source.classes) == ["nothing", "cell"] and len(pairs(source)) == 2
        assert items(source)["all/a.jpg"].mask.void == {1, 255}


class TestCityscapes:
    def make(self, root: Path, kind: str = "labelIds", pixels: np.ndarray = PIXELS) -> Path:
        names = ("lindau_000000_000019", "lindau_000001_000019")
        save(root, *(f"leftImg8bit/val/lindau/{name}_leftImg8bit.png" for name in names))
        save(root, "leftImg8bit/train/ulm/ulm_000000_000019_leftImg8bit.png")
        save(root, "leftImg8bit/test/bonn/bonn_000000_000019_leftImg8bit.png")
        for split, name in (("val", names[0]), ("train", "ulm_000000_000019")):
            city = name.split("_")[0]
            save(root, f"gtFine/{split}/{city}/{name}_gtFine_{kind}.png", pixels=pixels)
            save(root, f"gtFine/{split}/{city}/{name}_gtFine_instanceIds.png", pixels=PIXELS)
            save(root, f"gtFine/{split}/{city}/{name}_gtFine_color.png")
        return root

    def test_label_ids_become_the_19_classes(self, tmp_path: Path):
        pixels = np.array([[7, 8, 0, 4], [33, 31, 29, 34], [11, 26, 6, 9]], np.uint8)
        source = formats.open_source("cityscapes", self.make(tmp_path, pixels=pixels))
        assert list(source.classes) == list(LABEL_IDS)
        assert {(r.split, r.group) for r in source.records() if isinstance(r, Record)} == {
            ("val", "lindau"), ("train", "ulm"),
        }  # fmt: skip
        assert rejected(source) == {"leftImg8bit/val/lindau/lindau_000001_000019_leftImg8bit.png": "image without mask"}
        assert source.notes == ("the 1 images of leftImg8bit/test have no labels: left out",)
        found, _ = stored(source, tmp_path / "data")
        expected = [[0, 1, VOID, VOID], [18, 16, VOID, VOID], [2, 13, VOID, VOID]]
        assert all(numbers.tolist() == expected for numbers in found.values()) and len(found) == 2
        for defects in Dataset(tmp_path / "data").table(columns=["defects"])["defects"].to_pylist():
            assert defects == ["mask has 1 pixels of value 34, which has no name: ignored"]

    def test_train_ids(self, tmp_path: Path):
        pixels = np.array([[0, 1, 18, 255]] * 3, np.uint8)
        source = formats.open_source("cityscapes", self.make(tmp_path, "labelTrainIds", pixels))
        found, _ = stored(source, tmp_path / "data")
        assert [numbers.tolist()[0] for numbers in found.values()] == [[0, 1, 18, VOID]] * 2


class TestMaskPng:
    @pytest.mark.parametrize(
        ("image", "mask", "split"),
        [
            ("images/a.jpg", "masks/a.png", None),
            ("images/train/a.jpg", "annotations/train/a.png", "train"),
            ("valid/images/a.jpg", "valid/masks/a.png", "val"),
            ("images/test/deep/a.jpg", "labels/test/deep/a.png", "test"),
            ("images/a.jpg", "masks/a_mask.png", None),
            ("Images/a.png", "Masks/a.png", None),
        ],
    )
    def test_layouts(self, image: str, mask: str, split: str | None, tmp_path: Path):
        save(save(tmp_path, image), mask, pixels=PIXELS % 3)
        (tmp_path / "classes.txt").write_text("ground\nplant\nweed\n")
        source = formats.open_source("mask-png", tmp_path)
        assert pairs(source) == {image: Path(mask).name} and items(source)[image].split == split
        assert rejected(source) == {} and list(source.classes) == ["ground", "plant", "weed"]

    def test_the_same_name_in_two_splits_stays_apart(self, tmp_path: Path):
        save(tmp_path, "images/train/1.jpg", "images/val/1.jpg", "images/val/2.jpg")
        save(tmp_path, "masks/train/1.png", "masks/val/1.png", "masks/val/3.png", pixels=PIXELS)
        source = formats.open_source("mask-png", tmp_path)
        found = {p: i.mask.image.file.parent.name for p, i in items(source).items() if isinstance(i, Record)}
        assert found == {"images/train/1.jpg": "train", "images/val/1.jpg": "val"}
        assert rejected(source) == {
            "images/val/2.jpg": "image without mask", "masks/val/3.png": "mask without image",
        }  # fmt: skip

    def test_without_names_values_are_names(self, tmp_path: Path):
        save(save(tmp_path, "images/a.jpg"), "masks/a.png", pixels=PIXELS)
        (tmp_path / "masks" / "broken.png").write_bytes(b"no image")
        source = formats.open_source("mask-png", tmp_path)
        assert list(source.classes) == ["0", "1", "2", "3", "7", "8", "11", "26"]
        assert source.notes == ("no classes.txt: the 8 values are their own names",)

    def test_masks_of_black_and_white_need_names(self, tmp_path: Path):
        """As many tools write them; 255 would count as not labelled, and nothing be left to learn."""
        save(save(tmp_path, "images/a.png"), "masks/a.png", pixels=255 * (PIXELS % 2))
        with pytest.raises(
            ValueError, match=r"show 0 and 255 alone, .* in a classes.txt, as in 0: background and 255: "
        ):
            formats.open_source("mask-png", tmp_path)
        (tmp_path / "classes.txt").write_text("0: background\n255: thing\n")
        found, _ = stored(formats.open_source("mask-png", tmp_path), tmp_path / "data")
        assert found["images/a.png"].tolist() == (PIXELS % 2).tolist()

    def test_colours_need_names(self, tmp_path: Path):
        save(save(tmp_path, "images/a.jpg"), "masks/a.png", pixels=np.full((3, 4, 3), 9, np.uint8))
        with pytest.raises(
            ValueError, match=r"a\.png has values over 255, as colours do: name them in class_dict\.csv"
        ):
            formats.open_source("mask-png", tmp_path)
        (tmp_path / "class_dict.csv").write_text("name,r,g,b\nnine,9,9,9\n")
        found, _ = stored(formats.open_source("mask-png", tmp_path), tmp_path / "data")
        assert (found["images/a.jpg"] == 0).all()

    def test_a_bad_yaml_is_one_line(self, tmp_path: Path):
        save(save(tmp_path, "images/a.jpg"), "masks/a.png", pixels=PIXELS)
        (tmp_path / "config.yaml").write_text("classes: {a: 1}")
        with pytest.raises(ValueError, match=r"config\.yaml: classes must be a list of names, or map numbers"):
            formats.open_source("mask-png", tmp_path)


class TestPanoptic:
    def make(self, root: Path, segments: list[dict[str, object]], **changes: object) -> Path:
        ids = np.array([[5, 5, 300], [0, 70000, 70000]])
        colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], 2).astype(np.uint8)
        save(root, "val/panoptic_val/1.png", pixels=colours)
        save(root, "images/val/1.jpg", "images/val/2.jpg", pixels=np.zeros((2, 3, 3), np.uint8))
        annotation = {"image_id": 1, "file_name": "1.png", "segments_info": segments} | changes
        content = {
            "images": [{"id": 1, "file_name": "1.jpg", "width": 3, "height": 2}],
            "annotations": [annotation],
            "categories": [{"id": 9, "name": "sky"}, {"id": 2, "name": "cat"}],
        }
        (root / "val/panoptic_val.json").write_text(json.dumps(content))
        return root

    def test_segments_become_their_categories(self, tmp_path: Path):
        segments = [{"id": 5, "category_id": 9}, {"id": 300, "category_id": 2}, {"id": 70000, "category_id": 9}]
        source = formats.open_source("coco-panoptic", self.make(tmp_path, segments))
        assert list(source.classes) == ["cat", "sky"] and pairs(source) == {"images/val/1.jpg": "1.png"}
        assert source.notes == ("the 1 images of images/val are in no panoptic annotation: left out",)
        found, _ = stored(source, tmp_path / "data")
        assert found["images/val/1.jpg"].tolist() == [[1, 1, 0], [VOID, 1, 1]]

    def test_segments_without_category_are_defects(self, tmp_path: Path):
        segments = [{"id": 5, "category_id": 9}, {"id": 300, "category_id": 77}, {"category_id": 2}, "text"]
        (record,) = formats.open_source("coco-panoptic", self.make(tmp_path, segments)).records()
        assert record.mask.names == {5: "sky"} and len(record.defects) == 3 and record.split == "val"

    @pytest.mark.parametrize(
        ("changes", "path", "reason"),
        [
            ({"file_name": "gone.png"}, "gone.png", "mask of val/panoptic_val.json is not there"),
            ({"file_name": "../../etc/1.png"}, "../../etc/1.png", "mask of val/panoptic_val.json is not there"),
            ({"image_id": 8}, "val/panoptic_val/1.png", "annotation without image: None of val/panoptic_val.json"),
        ],
    )
    def test_what_is_missing_is_reported(self, changes: dict[str, object], path: str, reason: str, tmp_path: Path):
        segments: list[dict[str, object]] = [{"id": 5, "category_id": 9}]
        assert rejected(formats.open_source("coco-panoptic", self.make(tmp_path, segments, **changes))) == {
            path: reason
        }

    def test_torn_json_is_one_line(self, tmp_path: Path):
        file = self.make(tmp_path, [{"id": 5, "category_id": 9}]) / "val/panoptic_val.json"
        file.write_bytes(file.read_bytes()[:100])
        with pytest.raises(ValueError, match=r"panoptic_val\.json is not JSON"):
            formats.open_source("coco-panoptic", tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("road\ncar\n", {0: "road", 1: "car"}),
        ("# comment\n0: road\n11: car\n", {0: "road", 11: "car"}),
        ("7 traffic light\n", {7: "traffic light"}),
        ("road\n7 things\n", {0: "road", 1: "7 things"}),
        ("", {}),
    ],
)
def test_names_one_a_line(text: str, expected: dict[int, str], tmp_path: Path):
    (tmp_path / "classes.txt").write_text(text)
    assert read_names(tmp_path / "classes.txt") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 x\n", "line 1: '1 2 x' is no name with a colour"),
        ("1 2 300 cat\n", "line 1: '1 2 300 cat' has a number over 255"),
        ("name,r,g,b\ncat,1,2,3\ndog,1,2,3\n", "line 3: 'dog,1,2,3' has the colour of another name"),
    ],
)
def test_wrong_colours_are_named_with_their_line(text: str, message: str, tmp_path: Path):
    (tmp_path / "label_colors.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_colours(tmp_path / "label_colors.txt")
