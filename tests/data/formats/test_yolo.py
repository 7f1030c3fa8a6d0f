"""stages/data/formats/yolo.py."""

from pathlib import Path

import pytest
from PIL import Image

from stages.data.formats.yolo import read
from stages.data.records import Box, Record, Rejected

SIZE_PX = (500, 375)
NAMES = "names: {0: cat, 1: dog}\n"


def picture(file: Path, size_px: tuple[int, int] = SIZE_PX, orientation: int = 1) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[274] = orientation
    Image.new("RGB", size_px).save(file, "JPEG", exif=exif)


def make(root: Path, config: str = NAMES, images: tuple[str, ...] = ("images/a.jpg",), **labels: str) -> Path:
    """data.yaml, images, and labels/NAME.txt or, for a__b, labels/a/b.txt."""
    root.mkdir(exist_ok=True)
    (root / "data.yaml").write_text(config)
    for image in images:
        picture(root / image)
    for name, text in labels.items():
        file = root / "labels" / f"{name.replace('__', '/')}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def only(root: Path, **options: Path) -> Record:
    (item,) = read(root, **options).records()
    assert isinstance(item, Record), item
    return item


def test_boxes_are_the_decimals_that_stand_there(tmp_path: Path) -> None:
    """0.041 and 0.078 of 500 are the edges 1 and 40: not 0.99999999999999645, which binary fractions give."""
    record = only(make(tmp_path, a="1 0.041 0.5 0.078 0.2\n0 1.0 .25 1e-1 0.5"))
    assert record.boxes == (Box("dog", (1.0, 150.0, 40.0, 225.0)), Box("cat", (475.0, 0.0, 525.0, 187.5)))
    assert (record.size_px, record.defects) == (SIZE_PX, ())


def test_outlines_and_boxes_may_be_mixed(tmp_path: Path) -> None:
    record = only(make(tmp_path, a="0 0.1 0.2 0.5 0.2 0.5 0.8\n1 0.5 0.5 0.2 0.2\n"))
    assert record.boxes == (
        Box("cat", (50.0, 75.0, 250.0, 300.0), polygons=((50.0, 75.0, 250.0, 75.0, 250.0, 300.0),)),
        Box("dog", (200.0, 150.0, 300.0, 225.0)),
    )


def test_rings_one_after_the_other_are_the_parts_of_one_object(tmp_path: Path) -> None:
    line = "0 0 0 .1 0 .1 .2 0 0 .5 .4 .5 .4 .6 .4 .6 .8 .5 .4"
    (box,) = only(make(tmp_path, a=line)).boxes
    assert box.polygons == ((0.0, 0.0, 50.0, 0.0, 50.0, 75.0), (250.0, 150.0, 250.0, 150.0, 300.0, 150.0, 300.0, 300.0))
    assert box.xyxy == (0.0, 0.0, 300.0, 300.0)


@pytest.mark.parametrize(
    "line", ["0 0 0 .1 0 .1 .2 0 0", "0 0 0 .1 0 .1 .2 0 0 .5 .4 .6 .4", "0 0 0 .1 0 0 0 .1 .2 0 .2"]
)
def test_an_outline_that_only_touches_itself_stays_one(tmp_path: Path, line: str) -> None:
    (box,) = only(make(tmp_path, a=line)).boxes
    assert len(box.polygons) == 1
    assert len(box.polygons[0]) == len(line.split()) - 1


@pytest.mark.parametrize(
    ("shape", "columns", "seen"), [("[2, 3]", "0.2 0.4 2 0 0 0", (2.0, 0.0)), ("[2, 2]", "0.2 0.4 0 0", (2.0, 0.0))]
)
def test_joints(tmp_path: Path, shape: str, columns: str, seen: tuple[float, float]) -> None:
    config = f"{NAMES}kpt_shape: {shape}\nkpt_names: {{0: [nose, tail]}}\n"
    source = read(make(tmp_path, config, a=f"0 0.5 0.5 0.2 0.2 {columns}\n1 .5 .5 .2 .2"))
    assert source.skeleton == ("nose", "tail")
    (record,) = source.records()
    assert [box.keypoints for box in record.boxes] == [(100.0, 150.0, seen[0], 0.0, 0.0, seen[1]), ()]
    assert record.boxes[0].polygons == ()


def test_joints_without_names_have_numbers_and_lines_of_another_length_are_dropped(tmp_path: Path) -> None:
    root = make(tmp_path, f"{NAMES}kpt_shape: [1, 3]\n", a="0 .5 .5 .2 .2 .5 .5 2\n0 0 0 1 0 1 1")
    source = read(root)
    assert source.skeleton == ("joint 1",)
    (record,) = source.records()
    assert record.defects == ("labels/a.txt line 2: 7 columns, must be 5 or 8 for 1 joints: dropped",)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_shares_are_of_the_image_as_it_is_shown(tmp_path: Path, orientation: int) -> None:
    picture(make(tmp_path, a="0 0.5 0.5 1 1") / "images/a.jpg", orientation=orientation)
    record = only(tmp_path)
    size_px = SIZE_PX[::-1] if orientation == 6 else SIZE_PX
    assert record.size_px == size_px
    assert record.boxes[0].xyxy == (0.0, 0.0, *map(float, size_px))


LINES = {
    "0 0.5 0.5 0.2": "4 columns, must be 5, or 1 and x y of three or more points",
    "0 .1 .1 .2 .2 .3 .3 .4": "8 columns, must be 5, or 1 and x y of three or more points",
    "0 0.5 0.5 0.2 0.2 0.93": "6 columns: a score behind the box is an answer of a model and no label",
    "2 0.5 0.5 0.2 0.2": "class 2 is not among the 2 names",
    "-1 0.5 0.5 0.2 0.2": "class -1 is not among the 2 names",
    "0.5 0.5 0.5 0.2 0.2": "class 0.5 is not among the 2 names",
    "1e999999 0.5 0.5 0.2 0.2": "class 1e999999 is not among the 2 names",
    "nan 0.5 0.5 0.2 0.2": "class 'nan' is no number",
    "cat 0.5 0.5 0.2 0.2": "class 'cat' is no number",
    "0 250 187 100 75": "250 is no share of the image's width or height: are these pixels?",
    "0 0.5 0.5 0 0.2": "box 0.5 0.5 0 0.2 has no area",
    "0 0.5 0.5 -0.2 0.2": "box 0.5 0.5 -0.2 0.2 has no area",
    "0 .1 .1 .1 .5 .1 .9": "the outline has no area",
    "0 nan 0.5 0.2 0.2": "'nan' is no finite number",
    "0 inf 0.5 0.2 0.2": "'inf' is no finite number",
    "0 0,5 0.5 0.2 0.2": "'0,5' is no number",
}


@pytest.mark.parametrize("line", LINES)
def test_a_bad_line_is_told_and_the_others_stay(tmp_path: Path, line: str) -> None:
    record = only(make(tmp_path, a=f"\n1 0.5 0.5 0.2 0.2\n{line}\n"))
    assert [box.label for box in record.boxes] == ["dog"]
    assert record.defects == (f"labels/a.txt line 3: {LINES[line]}: dropped",)


def test_an_image_of_which_no_line_can_be_used_is_no_image_without_objects(tmp_path: Path) -> None:
    (item,) = read(make(tmp_path, a="0 250 187 100 75\n0 20 20 10 10")).records()
    assert isinstance(item, Rejected)
    assert item.path == "images/a.jpg"
    assert item.reason.startswith("no line of labels/a.txt can be used: line 1: 250 is no share")


def test_a_line_that_stands_there_twice_is_kept_and_told(tmp_path: Path) -> None:
    record = only(make(tmp_path, a="0 .5 .5 .2 .2\n1 .5 .5 .2 .2\n0  .5 .5 .2 .2\n3.0 0 0 1 1\n1.0 .5 .5 .1 .1"))
    assert [box.label for box in record.boxes] == ["cat", "dog", "cat", "dog"]
    assert record.defects[0] == "labels/a.txt line 3 repeats line 1: kept"


def test_images_without_objects(tmp_path: Path) -> None:
    """An empty file says so; where there is none, that is said."""
    root = make(tmp_path, images=("images/a.jpg", "images/b.jpg", "images/c.jpg"), a="0 .5 .5 .2 .2", b="\n")
    a, b, c = read(root).records()
    assert [len(record.boxes) for record in (a, b, c)] == [1, 0, 0]
    assert [record.defects for record in (a, b, c)] == [(), (), ("no label file: taken as an image without objects",)]
    (root / "data.yaml").write_text(f"{NAMES}skip_if_label_file_missing: true\n")
    assert list(read(root).records())[2] == Rejected(
        "images/c.jpg", "image without label file, which data.yaml says to skip"
    )


def test_a_broken_image_and_labels_without_an_image_are_rejected(tmp_path: Path) -> None:
    root = make(tmp_path, images=("images/a.jpg", "images/b.jpg"), a="0 .5 .5 .2 .2", b="", gone="")
    (root / "images/b.jpg").write_bytes(b"no image")
    _, b, gone = read(root).records()
    assert b.path == "images/b.jpg" and b.reason.startswith("not an image, or a broken header")
    assert gone == Rejected("labels/gone.txt", "annotation without image")


SPLIT_IMAGES = ("images/one/a.jpg", "images/two/b.jpg", "images/three/c.jpg")
SPLIT_LABELS = {"one__a": "", "two__b": "", "three__c": "0 .5 .5 .2 .2"}


@pytest.mark.parametrize(
    "config",
    [
        "path: .\ntrain: images/one\nval: images/two\ntest: images/three\n",
        "path: ../datasets/pets\ntrain: images/one\nval: [images/two]\ntest: images/three/\n",
        "train: /home/somebody/pets/images/one\nvalid: ../images/two\ntest: C:\\pets\\images\\three\n",
    ],
)
def test_splits_are_folders_of_which_the_end_is_true(tmp_path: Path, config: str) -> None:
    source = read(make(tmp_path, NAMES + config, SPLIT_IMAGES, **SPLIT_LABELS))
    splits = {record.path: record.split for record in source.records()}
    assert splits == dict(zip(SPLIT_IMAGES, ("train", "val", "test"), strict=True))
    assert source.notes == ()


def test_splits_are_lists_whose_paths_may_be_elsewhere(tmp_path: Path) -> None:
    config = f"{NAMES}train: lists/train.txt\nval: lists/val.txt\n"
    root = make(tmp_path, config, SPLIT_IMAGES, **SPLIT_LABELS)
    (root / "lists").mkdir()
    (root / "lists/train.txt").write_text("/old/place/images/one/a.jpg\n./images/one/gone.jpg\n")
    (root / "lists/val.txt").write_text("images/two/b.jpg\r\n\r\n")
    source = read(root)
    items = {item.path: item for item in source.records()}
    assert [items[path].split for path in SPLIT_IMAGES] == ["train", "val", None]
    assert items["./images/one/gone.jpg"] == Rejected(
        "./images/one/gone.jpg", "listed in lists/train.txt, but not there"
    )
    assert source.notes == ("1 images are in no split: split by their hash",)


def test_roboflows_folders(tmp_path: Path) -> None:
    config = (
        f"{NAMES}train: ../train/images\nval: ../valid/images\nroboflow: {{license: CC BY 4.0, url: 'https://x.y'}}\n"
    )
    root = make(tmp_path, config, ("train/images/a.jpg", "valid/images/a.jpg"))
    for folder, label in (("train", 0), ("valid", 1)):
        (root / folder / "labels").mkdir()
        (root / folder / "labels/a.txt").write_text(f"{label} .5 .5 .2 .2")
    source = read(root)
    assert [(r.split, r.boxes[0].label) for r in source.records()] == [("train", "cat"), ("val", "dog")]
    assert (source.licence, source.origin) == ("CC BY 4.0", "https://x.y")


def test_a_val_that_is_train_holds_nothing_out(tmp_path: Path) -> None:
    source = read(make(tmp_path, f"{NAMES}train: images\nval: images\n", a="0 .5 .5 .2 .2"))
    assert [record.split for record in source.records()] == ["train"]
    assert source.notes == ("val of data.yaml is all in train: it holds nothing out, and train counts",)


def test_an_image_in_two_lists_is_held_out(tmp_path: Path) -> None:
    root = make(tmp_path, f"{NAMES}train: train.txt\nval: val.txt\n", SPLIT_IMAGES, **SPLIT_LABELS)
    (root / "train.txt").write_text("\n".join(SPLIT_IMAGES[:2]))
    (root / "val.txt").write_text("\n".join(SPLIT_IMAGES[1:]))
    source = read(root)
    assert sorted((record.path, record.split) for record in source.records()) == sorted(
        zip(SPLIT_IMAGES, ("train", "val", "val"), strict=True)
    )
    assert source.notes == ("1 images are in two splits of data.yaml: the held-out one counts",)


def test_labels_of_another_split_are_not_taken(tmp_path: Path) -> None:
    """b has no labels in train; those of another b in val are not its own."""
    images = ("images/train/a.jpg", "images/train/b.jpg", "images/val/b.jpg")
    root = make(tmp_path, images=images, train__a="0 .5 .5 .2 .2", val__b="1 .5 .5 .2 .2")
    assert [[box.label for box in record.boxes] for record in read(root).records()] == [["cat"], [], ["dog"]]


def test_a_test_split_without_labels_is_left_out_and_said_once(tmp_path: Path) -> None:
    images = ("images/train/a.jpg", "images/test/b.jpg", "images/test/c.jpg")
    source = read(make(tmp_path, images=images, train__a="0 .5 .5 .2 .2"))
    assert [record.path for record in source.records()] == ["images/train/a.jpg"]
    assert source.notes == ("the 2 images of images/test have no label files: left out",)


def test_two_label_files_for_an_image_are_told(tmp_path: Path) -> None:
    item, *_ = read(make(tmp_path, x__a="0 .5 .5 .2 .2", y__a="")).records()
    assert item == Rejected("images/a.jpg", "several label files fit: labels/x/a.txt, labels/y/a.txt")


def test_darknets_layout(tmp_path: Path) -> None:
    folder = tmp_path / "obj_train_data"
    for name in ("a", "b"):
        picture(folder / f"{name}.jpg")
        (folder / f"{name}.txt").write_text("1 .5 .5 .2 .2\n")
    (tmp_path / "obj.names").write_text("cat\ndog\n\n")
    (tmp_path / "obj.data").write_text("classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = b/\n")
    (tmp_path / "train.txt").write_text("data/obj_train_data/a.jpg\ndata/obj_train_data/b.jpg\n")
    source = read(tmp_path)
    assert source.classes == {"cat": "cat", "dog": "dog"}
    assert [(r.path, r.split) for r in source.records()] == [(f"obj_train_data/{n}.jpg", "train") for n in "ab"]


def test_labels_beside_the_images_with_classes_txt(tmp_path: Path) -> None:
    picture(tmp_path / "a.v2.jpg")
    (tmp_path / "a.v2.txt").write_text("\ufeff0 .5 .5 .2 .2\n")
    (tmp_path / "classes.txt").write_text("cat\r\ndog\r\n")
    (tmp_path / "README.dataset.txt").write_text("made by hand")
    assert only(tmp_path).boxes[0].label == "cat"


def test_images_may_lie_elsewhere(tmp_path: Path) -> None:
    root = make(tmp_path / "labels only", images=(), train2017__a="0 .5 .5 .2 .2")
    picture(tmp_path / "pictures/train2017/a.jpg")
    record = only(root, images=tmp_path / "pictures")
    assert (record.path, record.split) == ("train2017/a.jpg", "train")


CONFIGS = {
    "names: [cat, dog": "data.yaml is not YAML",
    "nc: 2": "no names of YOLO's classes in",
    "names: 2": "names must be a list, or a mapping from numbers, is 2",
    "names: {cat: 0}": "names must be a list, or a mapping from numbers",
    "names: [cat, cat]": "two classes have one name",
    "names: [cat, '']": "class 1 has no name that can be read",
    "names: []": "class 0 has no name that can be read",
    "names: [cat]\nkpt_shape: [3]": r"kpt_shape must be \[joints, 2 or 3\]",
    "names: [cat]\nkpt_shape: [3, 4]": r"kpt_shape must be \[joints, 2 or 3\]",
    "names: [cat]\nkpt_shape: [2, 3]\nkpt_names: [a]": "kpt_shape has 2 joints, kpt_names 1",
}


@pytest.mark.parametrize("config", CONFIGS)
def test_a_wrong_description_is_one_line(tmp_path: Path, config: str) -> None:
    with pytest.raises(ValueError, match=CONFIGS[config]) as error:
        read(make(tmp_path, config, a=""))
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_what_lacks_images_or_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no image in"):
        read(make(tmp_path / "a", images=(), a=""))
    with pytest.raises(ValueError, match="no YOLO label file in"):
        read(make(tmp_path / "b"))


def test_several_descriptions_are_refused(tmp_path: Path) -> None:
    for name in ("boxes", "outlines"):
        make(tmp_path / name, a="")
    with pytest.raises(
        ValueError, match=r"several descriptions, boxes/data\.yaml, outlines/data\.yaml: name the folder"
    ):
        read(tmp_path)


def test_nc_that_is_not_the_number_of_names_is_told(tmp_path: Path) -> None:
    source = read(make(tmp_path, "nc: 3\nnames: [cat, dog]\n", a=""))
    assert source.notes == ("data.yaml says nc: 3 and names 2 classes: the names count",)
