"""Each natural defect that the PROVENANCE.md files of the real data list: kept, repaired with a note, or rejected."""

import io
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.data.formats import open_source
from stages.data.formats._pixels import Pixels
from stages.data.images import decode_rgb, inspect
from stages.data.index import key_of, row
from stages.data.records import Box, Record, Rejected, Source


def items(source: Source) -> tuple[dict[str, Record], dict[str, str]]:
    """path -> record, and path -> reason of what is rejected."""
    found = list(source.records())
    kept = {item.path: item for item in found if isinstance(item, Record)}
    return kept, {item.path: item.reason for item in found if isinstance(item, Rejected)}


def mode_of(record: Record) -> str:
    return Image.open(io.BytesIO(record.image.read())).mode


def boxes(source: Source) -> Iterator[Box]:
    return (box for item in source.records() if isinstance(item, Record) for box in item.boxes or ())


class TestImagenetSample:
    @pytest.fixture(scope="class")
    def source(self, shared_data: Path) -> Source:
        return open_source("imagenet", shared_data / "imagenet-sample")

    def test_a_flat_folder_has_its_classes_in_the_names_of_its_files(self, source: Source) -> None:
        kept, rejected = items(source)
        assert (len(kept), rejected) == (214, {})
        assert all(record.labels == (path[:9],) for path, record in kept.items())
        assert source.classes["n02951585"] == "can opener"

    def test_greyscale_is_kept_and_shown_in_three_channels(self, source: Source) -> None:
        kept, _ = items(source)
        grey = [path for path, record in kept.items() if mode_of(record) == "L"]
        assert len(grey) == 16 and "n02096051_Airedale.JPEG" in grey
        pixels = decode_rgb(kept[grey[0]].image.read())
        assert np.array_equal(pixels[..., 0], pixels[..., 2])

    def test_a_turned_image_is_stored_as_it_is_and_counts_upright(self, source: Source) -> None:
        record = items(source)[0]["n02951585_can_opener.JPEG"]
        facts = inspect(record.image.read())
        stored = Image.open(io.BytesIO(record.image.read())).size
        assert facts.orientation == 6
        assert (facts.width, facts.height) == stored[::-1]

    def test_upper_case_suffixes_hyphens_and_any_size(self, source: Source) -> None:
        kept, _ = items(source)
        assert all(path.endswith(".JPEG") for path in kept)
        assert any("-" in path for path in kept)
        sizes = {Image.open(io.BytesIO(record.image.read())).size for record in kept.values()}
        assert {(86, 108), (1280, 1024)} & sizes


class TestTinyImagenet:
    @pytest.fixture(scope="class")
    def kept(self, shared_data: Path) -> dict[str, Record]:
        kept, rejected = items(open_source("tiny-imagenet", shared_data / "tiny-imagenet"))
        assert rejected == {}  # the *_boxes.txt beside the images are no images that went wrong
        return kept

    def test_greyscale_is_kept(self, kept: dict[str, Record]) -> None:
        assert sum(mode_of(record) == "L" for record in kept.values()) == 75

    def test_the_flat_val_has_the_labels_of_its_list_and_no_class_called_images(self, kept: dict[str, Record]) -> None:
        val = Counter(record.labels for record in kept.values() if record.split == "val")
        assert len(val) == 40 and set(val.values()) == {25}
        assert all(re.fullmatch(r"n\d{8}", label) for (label,) in val)


class TestCifarJpeg:
    def test_the_same_file_name_in_each_class_is_another_sample(self, shared_data: Path) -> None:
        kept, _ = items(open_source("imagefolder", shared_data / "cifar10-jpeg"))
        assert len({path.rpartition("/")[2] for path in kept}) == 200
        assert len({key_of(path, "") for path in kept}) == len(kept) == 2500

    def test_images_that_went_through_jpeg_stay_jpeg(self, shared_data: Path) -> None:
        """Only CIFAR's own batches become PNG: what was lost once is not decoded and packed anew."""
        kept, _ = items(open_source("imagefolder", shared_data / "cifar10-jpeg"))
        record = kept["train/cat/0000.jpg"]
        assert not isinstance(record.image, Pixels)
        assert record.image.read() == (shared_data / "cifar10-jpeg/train/cat/0000.jpg").read_bytes()


class TestClothing:
    def test_validation_is_val_and_a_hyphen_stays_in_a_class(self, shared_data: Path) -> None:
        source = open_source("imagefolder", shared_data / "clothing-small")
        kept, _ = items(source)
        assert "t-shirt" in source.classes and len(source.classes) == 10
        counts = Counter((record.split, record.labels[0]) for record in kept.values())
        assert {split for split, _ in counts} == {"train", "val", "test"}
        assert (counts["train", "t-shirt"], counts["val", "t-shirt"], counts["test", "skirt"]) == (25, 10, 10)


class TestBccd:
    def test_boxes_without_area_are_dropped_and_told(self, shared_data: Path) -> None:
        source = open_source("voc", shared_data / "bccd")
        kept, rejected = items(source)
        told = {path.rpartition("/")[2]: record.defects for path, record in kept.items() if record.defects}
        assert told == {
            "BloodImage_00338.jpg": ("box RBC (504, 337, 504, 337) has no area: dropped",),
            "BloodImage_00343.jpg": ("box RBC (181, 329, 181, 329) has no area: dropped",),
        }
        assert Counter(box.label for box in boxes(source)) == {"RBC": 4153, "WBC": 372, "Platelets": 361}
        assert rejected == {}

    def test_paths_of_the_author_do_not_matter_and_gaps_in_the_numbers_neither(self, shared_data: Path) -> None:
        kept, _ = items(open_source("voc", shared_data / "bccd"))
        assert Counter(record.split for record in kept.values()) == {"train": 205, "val": 87, "test": 72}
        assert all(path.startswith("BCCD/JPEGImages/") for path in kept)


class TestCocoMini:
    @pytest.fixture(scope="class")
    def source(self, shared_data: Path) -> Source:
        return open_source("coco", shared_data / "coco-mini")

    def test_images_in_no_annotation_file_are_rejected_and_not_taken_as_empty(self, source: Source) -> None:
        kept, rejected = items(source)
        assert set(rejected.values()) == {"image without annotation"} and len(rejected) == 10
        assert "val2017/000000431848.jpg" in rejected  # the greyscale one
        assert Counter(record.split for record in kept.values()) == {"train": 80, "val": 79}

    def test_crowds_are_kept_with_their_masks(self, source: Source) -> None:
        kept, _ = items(source)
        crowds = [(r.split, box) for r in kept.values() for box in r.boxes or () if box.is_crowd]
        assert Counter(split for split, _ in crowds) == {"train": 8, "val": 5}
        assert all(box.rle and not box.polygons for _, box in crowds)

    def test_persons_without_a_labelled_joint_are_kept(self, source: Source) -> None:
        persons = [box for box in boxes(source) if box.keypoints]
        assert len(persons) == 290
        assert sum(not any(box.keypoints[2::3]) for box in persons) == 136
        kept, _ = items(source)
        with_joints = [r.split for r in kept.values() if any(any(box.keypoints[2::3]) for box in r.boxes or ())]
        assert Counter(with_joints) == {"train": 28, "val": 32}

    def test_a_split_that_lacks_categories_has_all_classes(self, source: Source) -> None:
        kept, _ = items(source)
        used = {box.label for record in kept.values() if record.split == "val" for box in record.boxes or ()}
        assert (len(used), len(source.classes)) == (78, 80)
        assert list(source.classes)[:2] == ["person", "bicycle"] and "street sign" not in source.classes


class TestCoco128Yolo:
    @pytest.fixture(scope="class")
    def found(self, shared_data: Path) -> dict[str, Source]:
        root = shared_data / "coco128-yolo"
        names = ("object_detection", "instance_segmentation")
        return {name: open_source("yolo", root / name, root / "images") for name in names}

    def test_an_image_without_label_file_is_kept_as_one_without_objects_and_told(
        self, found: dict[str, Source]
    ) -> None:
        kept, _ = items(found["object_detection"])
        told = {path: record.defects for path, record in kept.items() if record.defects}
        without = [f"train2017/000000000{n}.jpg" for n in (250, 508)]
        assert told == dict.fromkeys(without, ("no label file: taken as an image without objects",))
        assert all(kept[path].boxes == () for path in without)

    def test_an_empty_label_file_is_an_image_without_objects(self, found: dict[str, Source]) -> None:
        kept, rejected = items(found["instance_segmentation"])
        empty = [path for path, record in kept.items() if not record.boxes]
        assert empty == [f"train2017/000000000{n}.jpg" for n in (250, 508)]
        assert not any(record.defects for record in kept.values()) and rejected == {}

    def test_label_files_without_image_are_rejected(self, found: dict[str, Source]) -> None:
        _, rejected = items(found["object_detection"])
        assert rejected == {f"labels/train2017/000000000{n}.txt": "annotation without image" for n in (656, 659)}

    def test_greyscale_is_kept(self, found: dict[str, Source]) -> None:
        kept, _ = items(found["object_detection"])
        grey = [path for path, record in kept.items() if mode_of(record) == "L"]
        assert grey == ["train2017/000000000086.jpg", "val2017/000000007888.jpg"]

    def test_class_numbers_differ_and_names_do_not(self, found: dict[str, Source]) -> None:
        """80 numbers without gaps, and COCO's up to 90: the classes are the same, and so are the objects of each.

        The outlines were made from another annotation (panoptic), which differs by three objects.
        """
        detected, segmented = (items(found[name])[0] for name in ("object_detection", "instance_segmentation"))
        assert found["object_detection"].classes == found["instance_segmentation"].classes
        differing = 0
        for path, record in detected.items():
            one, other = (Counter(box.label for box in r.boxes or ()) for r in (record, segmented[path]))
            differing += ((one - other) + (other - one)).total()
        assert differing == 3

    def test_parts_of_an_object_in_one_line_are_taken_apart(self, found: dict[str, Source]) -> None:
        outlines = list(boxes(found["instance_segmentation"]))
        assert len(outlines) == 323
        assert sum(len(box.polygons) > 1 for box in outlines) == 47
        assert all(len(part) >= 6 for box in outlines for part in box.polygons)

    def test_outlines_fill_the_boxes_of_the_same_objects(self, found: dict[str, Source]) -> None:
        detected, segmented = (items(found[name])[0] for name in ("object_detection", "instance_segmentation"))
        gaps_px = []
        for path, record in segmented.items():
            truth = np.array([box.xyxy for box in detected[path].boxes or ()]).reshape(-1, 4)
            for box in record.boxes or ():
                gaps_px.append(np.abs(truth - np.array(box.xyxy)).max(axis=1).min())
        assert np.median(gaps_px) < 1.5


class TestVoc100:
    @pytest.fixture(scope="class")
    def found(self, shared_data: Path) -> dict[str, Source]:
        root = shared_data / "voc100-multiformat"
        formats = {
            "pascalvoc_format": "voc",
            "imagenet_format": "voc",
            "coco_format_v1": "coco",
            "coco_format_v2": "coco",
            "yolo_format": "yolo",
        }
        return {name: open_source(fmt, root / "gts" / name, root / "images") for name, fmt in formats.items()}

    @pytest.mark.parametrize("name", ["imagenet_format", "coco_format_v1", "coco_format_v2", "yolo_format"])
    def test_the_same_boxes_in_each_format(self, found: dict[str, Source], name: str) -> None:
        """Classes by name, since each format has another order; six digits of YOLO are 0.0004 pixels of 500."""
        voc, other = (items(found[key])[0] for key in ("pascalvoc_format", name))
        tolerance_px = 0.0004 if name == "yolo_format" else 0.0
        assert sorted(voc) == sorted(other) and len(voc) == 100
        for path, record in voc.items():
            expected, given = (sorted((b.label, b.xyxy) for b in r.boxes or ()) for r in (record, other[path]))
            assert [label for label, _ in expected] == [label for label, _ in given]
            moved = np.array([xyxy for _, xyxy in expected]) - np.array([xyxy for _, xyxy in given])
            assert np.abs(moved).max() <= tolerance_px, path
        assert sum(len(record.boxes or ()) for record in other.values()) == 273

    def test_classes_come_in_another_order(self, found: dict[str, Source]) -> None:
        orders = {tuple(source.classes) for source in found.values()}
        assert len(orders) > 1 and len({frozenset(order) for order in orders}) == 1

    def test_images_that_no_detection_file_speaks_of_are_labelled(self, found: dict[str, Source]) -> None:
        for source in found.values():
            kept, rejected = items(source)
            assert {"2007_000676.jpg", "2007_001377.jpg"} <= {path.rpartition("/")[2] for path in kept}
            assert rejected == {}

    def test_answers_of_a_model_are_no_labels(self, shared_data: Path) -> None:
        root = shared_data / "voc100-multiformat"
        with pytest.raises(ValueError, match=r"coco_dets\.json holds answers of a model"):
            open_source("coco", root / "dets/coco_format", root / "images")

    def test_ids_of_more_than_32_bits(self, found: dict[str, Source]) -> None:
        assert len(items(found["coco_format_v2"])[0]) == 100

    def test_a_list_of_paths_that_are_not_here_still_gives_the_split(self, found: dict[str, Source]) -> None:
        kept, rejected = items(found["yolo_format"])
        assert {record.split for record in kept.values()} == {"train"}
        assert rejected == {} and found["yolo_format"].notes == ()


class TestMnist:
    def test_a_test_split_alone_is_enough(self, shared_data: Path) -> None:
        kept, rejected = items(open_source("idx", shared_data / "mnist-t10k"))
        assert Counter(record.split for record in kept.values()) == {"test": 10_000}
        assert rejected == {}

    def test_its_images_become_samples(self, shared_data: Path) -> None:
        record = items(open_source("idx", shared_data / "mnist-t10k"))[0]["t10k/000000.png"]
        made = row(record, inspect(record.image.read()), "test", "")
        assert (made["format"], made["mode"], made["width"], made["height"]) == ("PNG", "L", 28, 28)
