"""stages/data/formats/voc.py."""

import re
from collections import Counter
from pathlib import Path

import pytest

from stages.data.formats.voc import read
from stages.data.records import Box, Record, Rejected

CAT = "<object><name>cat</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object>"


def xml(filename: str | None = "1.jpg", objects: str = CAT, head: str = "") -> str:
    name = f"<filename>{filename}</filename>" if filename is not None else ""
    size = "<size><width>64</width><height>48</height><depth>3</depth></size>"
    return f"{head}<annotation>{name}{size}{objects}</annotation>"


def box(xmin: object, ymin: object, xmax: object, ymax: object, name: str = "cat", more: str = "") -> str:
    edges = f"<xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax>"
    return f"<object><name>{name}</name>{more}<bndbox>{edges}</bndbox></object>"


def write(root: Path, files: dict[str, str]) -> Path:
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    return root


def records(root: Path, images: Path | None = None) -> dict[str, Record]:
    return {item.path: item for item in read(root, images).records() if isinstance(item, Record)}


def rejected(root: Path, images: Path | None = None) -> dict[str, str]:
    return {item.path: item.reason for item in read(root, images).records() if isinstance(item, Rejected)}


class TestRealData:
    def test_bccd(self, shared_data: Path):
        source = read(shared_data / "bccd")
        items = list(source.records())
        assert Counter(item.split for item in items) == {"train": 205, "val": 87, "test": 72}
        labels = Counter(box.label for item in items for box in item.boxes)
        assert labels == {"RBC": 4155 - 2, "WBC": 372, "Platelets": 361}
        assert list(source.classes) == ["Platelets", "RBC", "WBC"]
        assert {Path(item.path).stem: item.defects for item in items if item.defects} == {
            "BloodImage_00338": ("box RBC (504, 337, 504, 337) has no area: dropped",),
            "BloodImage_00343": ("box RBC (181, 329, 181, 329) has no area: dropped",),
        }
        assert {item.size_px for item in items} == {(640, 480)}
        assert source.task == "detection"
        assert source.notes == ()

    def test_bccd_from_inside(self, shared_data: Path):
        outer = {path.removeprefix("BCCD/"): item for path, item in records(shared_data / "bccd").items()}
        inner = records(shared_data / "bccd" / "BCCD")
        assert {path: (item.split, item.boxes) for path, item in inner.items()} == {
            path: (item.split, item.boxes) for path, item in outer.items()
        }

    @pytest.mark.parametrize("form", ["pascalvoc_format", "imagenet_format"])
    def test_annotations_beside_another_image_folder(self, form: str, shared_data: Path):
        root, images = shared_data / "voc100-multiformat" / "gts" / form, shared_data / "voc100-multiformat" / "images"
        found = records(root, images)
        assert len(found) == 100
        assert rejected(root, images) == {}
        assert all(item.image.file == images / path and item.split is None for path, item in found.items())
        # The same numbers, read without an XML parser.
        expected = {}
        for file in sorted(root.rglob("*.xml")):
            text = file.read_text()
            edges = [re.findall(rf"<{edge}>([\d.]+)</", text) for edge in ("xmin", "ymin", "xmax", "ymax")]
            names = re.findall(r"<object>\s*<name>(\w+)</name>", text)
            boxes = [(name, *map(float, numbers)) for name, *numbers in zip(names, *edges, strict=True)]
            expected[f"{file.stem}.jpg"] = boxes
        assert {path: [(box.label, *box.xyxy) for box in item.boxes] for path, item in found.items()} == expected
        assert sum(map(len, expected.values())) == 273

    def test_without_its_images_it_says_what_to_name(self, shared_data: Path):
        with pytest.raises(ValueError, match="name the folder that holds the images"):
            read(shared_data / "voc100-multiformat" / "gts" / "pascalvoc_format")


class TestLayouts:
    def test_xml_beside_the_images(self, tmp_path: Path):
        write(tmp_path, {"a/1.jpg": "", "a/1.xml": xml(), "b/1.jpg": "", "b/1.xml": xml(objects="")})
        assert {path: len(item.boxes) for path, item in records(tmp_path).items()} == {"a/1.jpg": 1, "b/1.jpg": 0}
        assert rejected(tmp_path) == {}

    def test_a_devkit_of_two_years_with_masks(self, tmp_path: Path):
        for year, split in (("VOC2007", "train"), ("VOC2012", "val")):
            write(
                tmp_path,
                {
                    f"{year}/JPEGImages/1.jpg": "",
                    f"{year}/SegmentationClass/1.png": "",
                    f"{year}/Annotations/1.xml": xml(),
                    f"{year}/ImageSets/Main/{split}.txt": "1\n",
                    f"{year}/ImageSets/Main/cat_{split}.txt": "1  1\n",
                    f"{year}/ImageSets/Segmentation/test.txt": "1\n",
                },
            )
        assert {path: item.split for path, item in records(tmp_path).items()} == {
            "VOC2007/JPEGImages/1.jpg": "train",
            "VOC2012/JPEGImages/1.jpg": "val",
        }
        assert rejected(tmp_path) == {}

    @pytest.mark.parametrize(
        ("lists", "splits", "note"),
        [
            ({"trainval": "1\n2\n", "test": "3\n"}, ["train", "train", "test"], "taken as train"),
            ({"trainval": "1\n2\n3\n"}, [None, None, None], "3 images are in no list"),
            ({"train": "1\n", "val": "2.jpg\n", "trainval": "1\n2\n"}, ["train", "val", None], "1 images are in no"),
            ({"train": "1\n2\n3\n", "test": "JPEGImages/3.jpg\n"}, ["train", "train", "test"], None),
            ({"train": "1\n2\n3\n", "test": "3\n"}, ["train", "train", "test"], "1 names are in two lists"),
            ({"default": "1\n2\n3\n"}, [None, None, None], "3 images are in no list"),
        ],
    )
    def test_split_lists(self, tmp_path: Path, lists: dict[str, str], splits: list[str | None], note: str | None):
        for n in "123":
            write(tmp_path, {f"JPEGImages/{n}.jpg": "", f"Annotations/{n}.xml": xml(f"{n}.jpg")})
        write(tmp_path, {f"ImageSets/Main/{name}.txt": text for name, text in lists.items()})
        assert [item.split for item in records(tmp_path).values()] == splits
        assert note is None or any(note in said for said in read(tmp_path).notes)

    def test_a_listed_name_that_is_not_there_is_reported(self, tmp_path: Path):
        write(tmp_path, {"JPEGImages/1.jpg": "", "Annotations/1.xml": xml(), "ImageSets/Main/train.txt": "1\n7\n"})
        assert rejected(tmp_path) == {"Annotations/7.xml": "listed in ImageSets/Main, but not there"}


class TestObjects:
    def test_raw_edges_flags_and_parts(self, tmp_path: Path):
        flags = "<difficult>1</difficult><truncated>0</truncated>"
        part = "<object><name>dog</name><bndbox><xmin>0.5</xmin><ymin>1</ymin><xmax>9e2</xmax><ymax>4</ymax></bndbox>"
        part += f"<truncated>1</truncated><part>{box(0, 0, 1, 1, 'head')[8:-9]}</part></object>"
        write(tmp_path, {"1.jpg": "", "1.xml": xml(objects=box(1, 2, 30, 40, more=flags) + part)})
        (item,) = records(tmp_path).values()
        assert item.boxes == (
            Box("cat", (1.0, 2.0, 30.0, 40.0), difficult=True),
            Box("dog", (0.5, 1.0, 900.0, 4.0), truncated=True),
        )
        assert (item.size_px, item.defects) == ((64, 48), ())

    def test_one_bad_box_is_dropped_with_a_defect(self, tmp_path: Path):
        bad = [box(5, 5, 5, 9), box(9, 9, 5, 5), box("x", 1, 2, 3), box("nan", 1, 2, 3), box(1, 1, "inf", 3)]
        bad += [box("", 1, 2, 3), "<object><name>cat</name></object>", box(1, 2, 3, 4, name=" ")]
        write(tmp_path, {"1.jpg": "", "1.xml": xml(objects="".join([CAT, *bad]))})
        (item,) = records(tmp_path).values()
        assert item.boxes == (Box("cat", (1.0, 2.0, 30.0, 40.0)),)
        assert item.defects == (
            "box cat (5, 5, 5, 9) has no area: dropped",
            "box cat (9, 9, 5, 5) has no area: dropped",
            "box cat (x, 1, 2, 3) has an edge that is no number: dropped",
            "box cat (nan, 1, 2, 3) has an edge that is no number: dropped",
            "box cat (1, 1, inf, 3) has an edge that is no number: dropped",
            "box cat (, 1, 2, 3) has an edge that is no number: dropped",
            "box cat (, , , ) has an edge that is no number: dropped",
            "object 9 has no name: dropped",
        )

    @pytest.mark.parametrize(
        "size", ["", "<size><width>0</width><height>0</height></size>", "<size><width>x</width></size>"]
    )
    def test_a_size_that_says_nothing_is_none(self, tmp_path: Path, size: str):
        write(tmp_path, {"1.jpg": "", "1.xml": f"<annotation><filename>1.jpg</filename>{size}{CAT}</annotation>"})
        assert records(tmp_path)["1.jpg"].size_px is None


class TestPairing:
    def test_what_has_no_partner_is_reported(self, tmp_path: Path):
        write(tmp_path, {"1.jpg": "", "1.xml": xml(), "2.jpg": "", "3.xml": xml("3.jpg")})
        assert list(records(tmp_path)) == ["1.jpg"]
        assert rejected(tmp_path) == {
            "2.jpg": "image without annotation",
            "3.xml": "annotation without image: 3.jpg is missing",
        }

    @pytest.mark.parametrize("filename", ["gone.jpg", "1", "1.png", "folder\\1.jpg", None])
    def test_a_wrong_filename_falls_back_to_the_annotations_own_name(self, tmp_path: Path, filename: str | None):
        write(tmp_path, {"JPEGImages/1.jpg": "", "Annotations/1.xml": xml(filename)})
        assert list(records(tmp_path)) == ["JPEGImages/1.jpg"]

    def test_the_filename_counts_before_the_own_name(self, tmp_path: Path):
        write(tmp_path, {"a.jpg": "", "b.xml": xml("a.jpg")})
        assert list(records(tmp_path)) == ["a.jpg"]

    def test_a_filename_copied_into_every_file_does_not_mix_images_up(self, tmp_path: Path):
        for n in "123":
            write(tmp_path, {f"{n}.jpg": "", f"{n}.xml": xml("2.jpg", box(0, 0, n, n))})
        assert {path: item.boxes[0].xyxy[2] for path, item in records(tmp_path).items()} == {
            "1.jpg": 1.0,
            "2.jpg": 2.0,
            "3.jpg": 3.0,
        }

    def test_two_annotations_of_one_image(self, tmp_path: Path):
        write(tmp_path, {"1.jpg": "", "1.xml": xml(), "other.xml": xml()})
        assert list(records(tmp_path)) == ["1.jpg"]
        assert rejected(tmp_path) == {"other.xml": "annotates 1.jpg, as 1.xml does"}

    def test_several_images_that_fit(self, tmp_path: Path):
        write(tmp_path, {"a/1.jpg": "", "b/1.jpg": "", "xml/1.xml": xml(), "a/2.jpg": "", "xml/2.xml": xml("2.jpg")})
        assert rejected(tmp_path) == {"xml/1.xml": "several images fit: a/1.jpg, b/1.jpg"}

    @pytest.mark.parametrize("filename", ["../secret.jpg", "/etc/passwd", "C:\\x\\1.jpg", "a/../../secret.jpg"])
    def test_a_filename_that_leaves_the_folder(self, tmp_path: Path, filename: str):
        write(tmp_path, {"secret.jpg": "", "root/1.jpg": "", "root/1.xml": xml(filename), "root/2.jpg": ""})
        write(tmp_path, {"root/2.xml": xml("2.jpg")})
        assert list(records(tmp_path / "root")) == ["2.jpg"]
        assert rejected(tmp_path / "root") == {"1.xml": f"<filename> {filename!r} leaves the source folder"}

    def test_an_image_that_is_a_link_out(self, tmp_path: Path):
        write(tmp_path, {"secret.jpg": "", "root/1.xml": xml(), "root/2.jpg": "", "root/2.xml": xml("2.jpg")})
        (tmp_path / "root" / "1.jpg").symlink_to(tmp_path / "secret.jpg")
        assert list(records(tmp_path / "root")) == ["2.jpg"]
        assert rejected(tmp_path / "root")["1.jpg"] == "a link that leaves the source folder"


class TestHostileXml:
    BOMB = '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;">]>'
    FILE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (xml(head=BOMB), "XML with entities is refused"),
            (xml("&x;", head=FILE), "XML with entities is refused"),
            ("<annotation><object>", "not readable as XML: no element found"),
            ("", "not readable as XML: no element found"),
            ("<annotations><image/></annotations>", "not a Pascal VOC annotation: its root is <annotations>"),
            ('<?xml version="1.0" encoding="nonsense"?>' + xml(), "not readable as XML"),
            ("\0\0\0", "not readable as XML"),
        ],
    )
    def test_one_bad_file_is_reported_once_and_the_rest_goes_on(self, tmp_path: Path, content: str, reason: str):
        write(tmp_path, {"1.jpg": "", "1.xml": content, "2.jpg": "", "2.xml": xml("2.jpg")})
        assert list(records(tmp_path)) == ["2.jpg"]
        (found,) = rejected(tmp_path).items()
        assert found[0] == "1.xml"
        assert found[1].startswith(reason)

    def test_deep_and_large_files(self, tmp_path: Path):
        write(tmp_path, {"1.jpg": "", "1.xml": "<a>" * 200_000, "2.jpg": "", "2.xml": xml("2.jpg"), "3.jpg": ""})
        write(tmp_path, {"3.xml": xml("3.jpg", head=" " * (17 << 20)), "4.jpg": ""})
        write(tmp_path, {"4.xml": xml("4.jpg", "<part>" * 50_000 + "</part>" * 50_000)})
        assert list(records(tmp_path)) == ["2.jpg", "4.jpg"]
        assert set(rejected(tmp_path)) == {"1.xml", "3.xml"}

    def test_a_folder_of_nothing_else_says_the_first_reason(self, tmp_path: Path):
        write(tmp_path, {"1.jpg": "", "1.xml": xml(head=self.BOMB)})
        with pytest.raises(ValueError, match=r"looked for \*\.xml .*1\.xml is XML with entities is refused"):
            read(tmp_path)
