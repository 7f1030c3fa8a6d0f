"""stages/data/formats/coco.py."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask
from pycocotools.coco import COCO

from stages.data.formats import open_source
from stages.data.formats.coco import read
from stages.data.records import Record, Rejected
from stages.data.run_lengths import runs_of

CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]


def image(id: int | str = 1, file_name: Any = "1.jpg", **more: Any) -> dict[str, Any]:
    return {"id": id, "file_name": file_name, "width": 64, "height": 48, **more}


def annotation(image_id: Any = 1, category_id: Any = 3, bbox: Any = (1, 2, 30, 40), **more: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": image_id, "category_id": category_id, "bbox": bbox, "iscrowd": 0, **more}


def write(root: Path, path: str, images: list[Any], annotations: list[Any], categories: Any = CATEGORIES) -> Path:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / path).write_text(json.dumps(content))
    return root


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")
    return root


def records(root: Path, images: Path | None = None) -> dict[str, Record]:
    return {item.path: item for item in read(root, images).records() if isinstance(item, Record)}


def rejected(root: Path) -> list[tuple[str, str]]:
    return [(item.path, item.reason) for item in read(root).records() if isinstance(item, Rejected)]


def only(root: Path, **more: Any) -> Record:
    """The record of one image with one annotation."""
    write(touch(root, "1.jpg"), "a.json", [image()], [annotation(**more)])
    return records(root)["1.jpg"]


class TestRealData:
    @pytest.fixture(scope="class")
    def items(self, shared_data: Path) -> list[Record | Rejected]:
        return list(read(shared_data / "coco-mini").records())

    def test_counts(self, items: list[Record | Rejected]):
        found = [item for item in items if isinstance(item, Record)]
        assert Counter(item.split for item in found) == {"train": 80, "val": 79}
        boxes = {
            split: [box for item in found if item.split == split for box in item.boxes] for split in ("train", "val")
        }
        assert {split: len(listed) for split, listed in boxes.items()} == {"train": 739, "val": 624}
        assert {split: sum(box.is_crowd for box in listed) for split, listed in boxes.items()} == {"train": 8, "val": 5}
        assert not any(item.defects for item in found)
        reasons = [(item.path.split("/")[0], item.reason) for item in items if isinstance(item, Rejected)]
        assert Counter(reasons) == {("val2017", "image without annotation"): 10}
        assert "val2017/000000431848.jpg" in [item.path for item in items if isinstance(item, Rejected)]

    @pytest.mark.parametrize("split", ["train", "val"])
    def test_boxes_and_masks_equal_those_of_pycocotools(
        self, split: str, items: list[Record | Rejected], shared_data: Path, capsys: pytest.CaptureFixture[str]
    ):
        truth = COCO(shared_data / "coco-mini" / "annotations" / f"instances_{split}2017.json")
        capsys.readouterr()
        by_name = {info["file_name"]: id for id, info in truth.imgs.items()}
        for item in (item for item in items if isinstance(item, Record) and item.split == split):
            expected = truth.imgToAnns[by_name[Path(item.path).name]]
            info = truth.imgs[by_name[Path(item.path).name]]
            assert item.size_px == (info["width"], info["height"])
            assert [box.label for box in item.boxes] == [truth.cats[entry["category_id"]]["name"] for entry in expected]
            for box, entry in zip(item.boxes, expected, strict=True):
                x, y, width, height = entry["bbox"]
                assert box.xyxy == (x, y, x + width, y + height)
                assert bool(box.rle) == box.is_crowd != bool(box.polygons)
                if box.rle:
                    decoded = mask.decode({"counts": box.rle, "size": [info["height"], info["width"]]})
                    assert np.array_equal(decoded, truth.annToMask(entry))
                else:
                    assert [list(part) for part in box.polygons] == entry["segmentation"]

    def test_keypoints_are_merged_by_annotation_id(self, items: list[Record | Rejected], shared_data: Path):
        expected = Counter()
        for split in ("train", "val"):
            file = shared_data / "coco-mini" / "annotations" / f"person_keypoints_{split}2017.json"
            expected.update(
                tuple(map(float, entry["keypoints"])) for entry in json.loads(file.read_text())["annotations"]
            )
        people = [box for item in items if isinstance(item, Record) for box in item.boxes if box.keypoints]
        assert Counter(box.keypoints for box in people) == expected
        assert len(people) == 172 + 118
        assert {box.label for box in people} == {"person"}
        # 136 of the annotations, as PROVENANCE.md says, are people of whom no joint is marked.
        assert sum(not any(box.keypoints[2::3]) for box in people) == 136

    def test_facts_of_the_whole(self, shared_data: Path):
        source = open_source("coco", shared_data / "coco-mini")
        assert len(source.classes) == 80
        assert list(source.classes)[:12:11] == ["person", "stop sign"]  # ids 1 and 13: there is no 12
        assert source.skeleton[:2] == ("nose", "left_eye")
        assert len(source.skeleton) == 17
        edges = {(source.skeleton[a], source.skeleton[b]) for a, b in source.skeleton_edges}
        assert ("left_ankle", "left_knee") in edges
        assert ("left_ear", "left_shoulder") in edges
        assert "Attribution License" in source.licence
        assert source.origin == "http://cocodataset.org"
        assert source.notes == ()

    def test_the_same_boxes_through_every_form_of_voc100(self, shared_data: Path):
        root = shared_data / "voc100-multiformat"
        forms = [("voc", "pascalvoc_format"), ("voc", "imagenet_format")]
        forms += [("coco", "coco_format_v1"), ("coco", "coco_format_v2")]
        found = []
        for fmt, folder in forms:
            source = open_source(fmt, root / "gts" / folder, images=root / "images")
            items = list(source.records())
            assert not any(isinstance(item, Rejected) or item.defects for item in items)
            found.append({item.path: sorted((box.label, box.xyxy) for box in item.boxes) for item in items})
            assert len(source.classes) == 20
        assert sum(map(len, found[0].values())) == 273
        assert all(boxes == found[0] for boxes in found)

    def test_compressed_masks_and_a_skeleton_with_wrong_edges(self, shared_data: Path):
        crowded = records(shared_data / "pose-samples" / "ochuman")
        assert sum(bool(box.rle) for item in crowded.values() for box in item.boxes) == 5
        source = read(shared_data / "pose-samples" / "crowdpose")
        assert "3 edges of the skeleton in test_crowdpose.json name a joint that it lacks: left out" in source.notes
        assert all(0 <= end < 14 for edge in source.skeleton_edges for end in edge)


class TestLayouts:
    def test_roboflow(self, tmp_path: Path):
        categories = [{"id": 0, "name": "pets", "supercategory": "none"}]
        categories += [{**entry, "supercategory": "pets"} for entry in CATEGORIES]
        for folder in ("train", "valid", "test"):
            write(tmp_path, f"{folder}/_annotations.coco.json", [image()], [annotation()], categories)
            touch(tmp_path, f"{folder}/1.jpg")
        found = {path: item.split for path, item in records(tmp_path).items()}
        assert found == {"test/1.jpg": "test", "train/1.jpg": "train", "valid/1.jpg": "val"}
        assert list(read(tmp_path).classes) == ["cat", "dog"]
        assert "category 'pets' of train/_annotations.coco.json only groups others: left out" in read(tmp_path).notes

    def test_a_supercategory_with_objects_is_a_class(self, tmp_path: Path):
        categories = [{"id": 3, "name": "cat"}, {"id": 4, "name": "kitten", "supercategory": "cat"}]
        write(touch(tmp_path, "1.jpg"), "a.json", [image()], [annotation()], categories)
        assert list(read(tmp_path).classes) == ["cat", "kitten"]

    def test_folders_of_images_are_searched_and_splits_kept_apart(self, tmp_path: Path):
        write(tmp_path, "annotations/train.json", [image(), image(2, "2.jpg")], [annotation()])
        write(tmp_path, "annotations/val.json", [image()], [annotation(category_id=7)])
        touch(tmp_path, "images/train/1.jpg", "images/val/1.jpg", "images/val/2.jpg")
        assert {path: item.boxes[0].label for path, item in records(tmp_path).items()} == {
            "images/train/1.jpg": "cat",
            "images/val/1.jpg": "dog",
        }
        # 2.jpg of val is another picture than the one that train.json lists.
        assert rejected(tmp_path) == [
            ("2.jpg", "annotation without image: listed in annotations/train.json"),
            ("images/val/2.jpg", "image without annotation"),
        ]

    def test_a_folder_named_as_the_file_comes_first(self, tmp_path: Path):
        write(tmp_path, "annotations/instances_b.json", [image()], [annotation()])
        touch(tmp_path, "a/1.jpg", "b/1.jpg")
        assert list(records(tmp_path)) == ["b/1.jpg"]

    def test_several_images_that_fit(self, tmp_path: Path):
        write(tmp_path, "annotations/instances_default.json", [image()], [annotation()])
        touch(tmp_path, "a/1.jpg", "b/1.jpg")
        (first, *_) = rejected(tmp_path)
        assert first == (
            "1.jpg",
            "several images fit this file_name in annotations/instances_default.json: a/1.jpg, b/1.jpg",
        )

    def test_test_without_annotations_is_said_once(self, tmp_path: Path):
        write(tmp_path, "annotations/instances_train2017.json", [image()], [annotation()])
        write(tmp_path, "annotations/image_info_test2017.json", [image(file_name="9.jpg")], [])
        touch(tmp_path, "train2017/1.jpg", "test2017/8.jpg", "test2017/9.jpg")
        assert rejected(tmp_path) == []
        assert read(tmp_path).notes == ("the 2 images of test2017 are in no annotation file: left out",)

    def test_keypoints_alone(self, tmp_path: Path):
        categories = [{"id": 3, "name": "cat", "keypoints": ["nose", "tail"], "skeleton": [[1, 2], [2, 3]]}]
        entry = annotation(keypoints=[1, 2, 2, 0, 0, 0])
        write(touch(tmp_path, "1.jpg"), "annotations/person_keypoints_val2017.json", [image()], [entry], categories)
        source = read(tmp_path)
        assert (source.skeleton, source.skeleton_edges) == (("nose", "tail"), ((0, 1),))
        assert records(tmp_path)["1.jpg"].boxes[0].keypoints == (1, 2, 2, 0, 0, 0)

    def test_keypoints_of_other_ids_or_images_are_not_merged(self, tmp_path: Path):
        joints = [{"id": 3, "name": "cat", "keypoints": ["nose"]}]
        people = [annotation(id=1, keypoints=[1, 1, 2]), annotation(image_id=2, id=2, keypoints=[2, 2, 2])]
        objects = [annotation(id=1), annotation(id=2), annotation(id=3)]
        write(touch(tmp_path, "1.jpg"), "annotations/instances_x.json", [image()], objects)
        write(tmp_path, "annotations/person_keypoints_x.json", [image()], people, joints)
        assert [box.keypoints for box in records(tmp_path)["1.jpg"].boxes] == [(1.0, 1.0, 2.0), (), ()]
        assert any(
            "1 annotations of annotations/person_keypoints_x.json are not in" in note for note in read(tmp_path).notes
        )

    def test_other_json_is_left_out_with_its_reason(self, tmp_path: Path):
        write(touch(tmp_path, "1.jpg"), "a.json", [image()], [annotation()])
        (tmp_path / "results.json").write_text("[1, 2]")
        (tmp_path / "captions_val2017.json").write_text("not even JSON")
        assert read(tmp_path).notes == ("results.json has no list 'images': left out",)
        (tmp_path / "a.json").unlink()
        with pytest.raises(ValueError, match=r"no COCO annotation in .*; results\.json has no list 'images'"):
            read(tmp_path)

    def test_without_images_it_says_what_to_name(self, tmp_path: Path):
        write(tmp_path, "a.json", [image()], [annotation()])
        with pytest.raises(ValueError, match="name the folder that holds the images"):
            read(tmp_path)


class TestImages:
    def test_what_has_no_partner_is_reported(self, tmp_path: Path):
        touch(tmp_path, "1.jpg", "9.jpg")
        write(tmp_path, "a.json", [image(), image(2, "2.jpg")], [annotation(), annotation(77), annotation(77)])
        assert records(tmp_path).keys() == {"1.jpg"}
        assert rejected(tmp_path) == [
            ("2.jpg", "annotation without image: listed in a.json"),
            ("9.jpg", "image without annotation"),
            ("a.json", "annotation without image: 2 of image_id 77, which is not in images"),
        ]

    def test_an_image_without_objects_has_no_boxes_but_is_kept(self, tmp_path: Path):
        write(touch(tmp_path, "1.jpg"), "a.json", [image()], [])
        assert records(tmp_path)["1.jpg"].boxes == ()

    @pytest.mark.parametrize(
        "name", ["../secret.jpg", "/etc/passwd", "..\\secret.jpg", "C:\\1.jpg", "a\0.jpg", "", "."]
    )
    def test_a_file_name_that_leaves_the_folder(self, tmp_path: Path, name: str):
        touch(tmp_path, "secret.jpg", "root/1.jpg")
        write(tmp_path, "root/a.json", [image(), image(2, name)], [annotation(), annotation(2)])
        assert records(tmp_path / "root").keys() == {"1.jpg"}
        assert rejected(tmp_path / "root") == [(name, "file_name in a.json leaves the source folder")]

    def test_an_image_that_is_a_link_out(self, tmp_path: Path):
        touch(tmp_path, "secret.jpg", "root/1.jpg")
        (tmp_path / "root" / "2.jpg").symlink_to(tmp_path / "secret.jpg")
        write(tmp_path, "root/a.json", [image(), image(2, "2.jpg")], [annotation()])
        assert records(tmp_path / "root").keys() == {"1.jpg"}
        assert ("2.jpg", "a link that leaves the source folder") in rejected(tmp_path / "root")

    def test_ids_and_files_that_occur_twice(self, tmp_path: Path):
        touch(tmp_path, "1.jpg", "2.jpg")
        images = [image(1, "1.jpg"), image(1, "2.jpg"), image(3, "1.jpg")]
        write(tmp_path, "a.json", images, [annotation()])
        assert {path: len(item.boxes) for path, item in records(tmp_path).items()} == {"1.jpg": 1}
        assert rejected(tmp_path) == [
            ("1.jpg", "listed again in a.json: that of a.json counts"),
            ("2.jpg", "image id 1 occurs twice in a.json: the first image has its annotations"),
        ]

    def test_ids_beyond_32_bits_and_ids_in_words(self, tmp_path: Path):
        touch(tmp_path, "1.jpg", "2.jpg")
        images = [image(2**40, "1.jpg"), image("two", "2.jpg")]
        write(tmp_path, "a.json", images, [annotation(2**40, 3), annotation("two", 7)])
        assert {path: item.boxes[0].label for path, item in records(tmp_path).items()} == {
            "1.jpg": "cat",
            "2.jpg": "dog",
        }

    @pytest.mark.parametrize(
        "entry", [None, 5, {}, {"id": 1}, {"id": [1], "file_name": "x"}, {"id": 1, "file_name": 3}]
    )
    def test_an_entry_that_is_no_image(self, tmp_path: Path, entry: Any):
        write(touch(tmp_path, "1.jpg"), "a.json", [image(), entry], [annotation()])
        assert records(tmp_path).keys() == {"1.jpg"}
        assert rejected(tmp_path) == [("a.json", "1 entries of images have no id or file_name")]

    @pytest.mark.parametrize("size", [{"width": 0}, {"width": None}, {"height": "48"}, {"height": -1}, {"width": 4.5}])
    def test_a_size_that_says_nothing_is_none(self, tmp_path: Path, size: dict[str, Any]):
        write(touch(tmp_path, "1.jpg"), "a.json", [image(**size)], [annotation()])
        assert records(tmp_path)["1.jpg"].size_px is None

    def test_a_name_that_is_no_text_can_be_printed(self, tmp_path: Path):
        write(touch(tmp_path, "1.jpg"), "a.json", [image(), image(2, "\ud800.jpg")], [])
        ((path, _),) = rejected(tmp_path)
        assert path.encode() == b"\\ud800.jpg"


class TestObjects:
    def test_edges_of_the_box(self, tmp_path: Path):
        item = only(tmp_path, bbox=[1.5, 2, 70, 0.25], iscrowd=1)
        (box,) = item.boxes
        assert (box.label, box.xyxy, box.is_crowd) == ("cat", (1.5, 2.0, 71.5, 2.25), True)
        assert (item.size_px, item.split, item.defects) == ((64, 48), None, ())

    @pytest.mark.parametrize(
        ("bbox", "reason"),
        [
            ([1, 2, 0, 4], "bbox [1, 2, 0, 4] has no area: dropped"),
            ([1, 2, 4, -4], "bbox [1, 2, 4, -4] has no area: dropped"),
            ([1, 2, float("nan"), 4], "is not four finite numbers: dropped"),
            ([float("inf"), 2, 3, 4], "is not four finite numbers: dropped"),
            ([10**400, 2, 3, 4], "is not four finite numbers: dropped"),
            ([1, 2, 3], "is not four finite numbers: dropped"),
            (["1", "2", "3", "4"], "is not four finite numbers: dropped"),
            ([True, 2, 3, 4], "is not four finite numbers: dropped"),
            (None, "bbox None is not four finite numbers: dropped"),
            ({}, "is not four finite numbers: dropped"),
        ],
    )
    def test_a_bad_box_is_dropped_with_a_defect(self, tmp_path: Path, bbox: Any, reason: str):
        item = only(tmp_path, bbox=bbox)
        assert item.boxes == ()
        (defect,) = item.defects
        assert defect.startswith("annotation 1 (cat): ")
        assert defect.endswith(reason)

    def test_a_category_that_is_not_there(self, tmp_path: Path):
        item = only(tmp_path, category_id=99)
        assert (item.boxes, item.defects) == ((), ("annotation 1: category 99 is not there: dropped",))

    @pytest.mark.parametrize(
        "entry", [None, 5, {}, {"image_id": [1], "category_id": 3}, {"image_id": 1, "category_id": {}}]
    )
    def test_an_entry_that_is_no_annotation(self, tmp_path: Path, entry: Any):
        write(touch(tmp_path, "1.jpg"), "a.json", [image()], [annotation(), entry])
        assert len(records(tmp_path)["1.jpg"].boxes) == 1
        assert rejected(tmp_path) == [("a.json", "1 annotations have no image_id or category_id")]

    def test_bad_polygons_are_dropped_and_good_ones_kept(self, tmp_path: Path):
        item = only(tmp_path, segmentation=[[0, 0, 5, 0, 5, 5], [1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7], ["x"] * 6, 3])
        assert item.boxes[0].polygons == ((0, 0, 5, 0, 5, 5),)
        assert item.defects == ("annotation 1 (cat): 4 polygons of less than three points: dropped",)

    def test_run_lengths_of_both_kinds_decode_to_the_same_mask(self, tmp_path: Path):
        pixels = np.zeros((48, 64), np.uint8, order="F")
        pixels[5:20, 7:40] = pixels[30:, 50:] = 1
        compressed = mask.encode(pixels)["counts"].decode()
        changes = np.flatnonzero(np.diff(pixels.ravel("F"), prepend=0))
        counts = np.diff([0, *changes, pixels.size]).tolist()
        for segmentation in ({"size": [48, 64], "counts": counts}, {"size": [48, 64], "counts": compressed}):
            item = only(tmp_path, segmentation=segmentation, iscrowd=1)
            assert (item.boxes[0].rle, item.defects) == (compressed, ())
        assert runs_of(compressed).tolist() == counts

    @pytest.mark.parametrize(
        "segmentation",
        [
            {"size": [48, 64], "counts": [10, 20]},
            {"size": [48, 64], "counts": [48 * 64 + 5, -5]},
            {"size": [48, 64], "counts": [2**40]},
            {"size": [48, 64], "counts": ["3072"]},
            {"size": [48, 64], "counts": "~~~~"},
            {"size": [48, 64], "counts": "o" * 100_000},
            {"size": [48, 64], "counts": "é"},
            {"size": [48, 64], "counts": ""},
            {"size": [48, 64]},
            {"size": [64, 48], "counts": [3072]},
            {"counts": [3072]},
            {},
        ],
    )
    def test_run_lengths_that_do_not_fill_the_image_are_dropped(self, tmp_path: Path, segmentation: Any):
        item = only(tmp_path, segmentation=segmentation)
        assert item.boxes[0].rle is None
        assert item.defects == ("annotation 1 (cat): run lengths do not fill the image (64, 48): dropped",)

    @pytest.mark.parametrize("keypoints", [[1, 2], [1, 2, 2, 3], [1, 2, None], "abc", {"a": 1}])
    def test_keypoints_of_another_length_are_dropped(self, tmp_path: Path, keypoints: Any):
        categories = [{"id": 3, "name": "cat", "keypoints": ["nose"]}]
        write(touch(tmp_path, "1.jpg"), "a.json", [image()], [annotation(keypoints=keypoints)], categories)
        item = records(tmp_path)["1.jpg"]
        assert item.boxes[0].keypoints == ()
        assert item.defects == ("annotation 1 (cat): keypoints are not 3 numbers for each of 1 joints: dropped",)


class TestFiles:
    def test_classes_are_in_the_order_of_ids_over_all_files(self, tmp_path: Path):
        touch(tmp_path, "train/1.jpg", "val/1.jpg")
        write(tmp_path, "annotations/train.json", [image()], [annotation()], [*CATEGORIES, {"id": 10, "name": "owl"}])
        write(tmp_path, "annotations/val.json", [image()], [annotation(category_id=5)], [{"id": 5, "name": "ant"}])
        assert list(read(tmp_path).classes) == ["cat", "ant", "dog", "owl"]
        assert records(tmp_path)["val/1.jpg"].boxes[0].label == "ant"

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ('{"images": [],\n "annotations": [,]}', r"a\.json is not JSON: .* at line 2, column 18"),
            ("", r"a\.json is not JSON: .* at line 1, column 1"),
            ("[" * 100_000, "is not JSON that can be read: .*recursion"),
            ("1" * 5000, "is not JSON that can be read: "),
            (b"\xff\xfe\xff", "is not JSON that can be read: "),
        ],
    )
    def test_what_is_no_json_is_one_clear_line(self, tmp_path: Path, text: str | bytes, reason: str):
        touch(tmp_path, "1.jpg")
        (tmp_path / "a.json").write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ValueError, match=reason) as error:
            read(tmp_path)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize(
        ("categories", "reason"),
        [
            ([{"id": 1}], "needs an id and a name"),
            ([{"name": "cat"}], "needs an id and a name"),
            (["cat"], "needs an id and a name"),
            ([{"id": 1, "name": "\ud800"}], "needs an id and a name"),
            ([{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}], "category id 1 has two names"),
        ],
    )
    def test_categories_that_mean_nothing_are_refused(self, tmp_path: Path, categories: Any, reason: str):
        write(touch(tmp_path, "1.jpg"), "a.json", [image()], [annotation()], categories)
        with pytest.raises(ValueError, match=reason):
            read(tmp_path)


class TestWholeImages:
    """Annotations without boxes, as iNaturalist's."""

    def test_categories_are_labels_and_an_image_without_one_is_none(self, tmp_path: Path):
        touch(tmp_path, "1.jpg", "2.jpg", "3.jpg")
        images = [image(1, "1.jpg"), image(2, "2.jpg"), image(3, "3.jpg")]
        labels = [{"id": 1, "image_id": 1, "category_id": 7}, {"id": 2, "image_id": 2, "category_id": 9}]
        write(tmp_path, "train.json", images, labels)
        assert read(tmp_path).task == "classification"
        assert {path: (item.labels, item.boxes, item.split) for path, item in records(tmp_path).items()} == {
            "1.jpg": (("dog",), None, "train")
        }
        assert rejected(tmp_path) == [
            ("2.jpg", "image without a label in train.json"),
            ("3.jpg", "image without a label in train.json"),
        ]

    def test_one_box_makes_it_detection(self, tmp_path: Path):
        labels = [{"id": 1, "image_id": 1, "category_id": 7}, annotation(id=2)]
        write(touch(tmp_path, "1.jpg"), "a.json", [image()], labels)
        assert read(tmp_path).task == "detection"
        assert records(tmp_path)["1.jpg"].defects == (
            "annotation 1 (dog): bbox None is not four finite numbers: dropped",
        )
