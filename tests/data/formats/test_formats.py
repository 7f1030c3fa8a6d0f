"""stages/data/formats: the door to the readers."""

import subprocess
import sys
from pathlib import Path

import pytest

from stages.data import formats
from stages.data.records import Record, Rejected, Source

REAL = {
    "imagefolder": "clothing-small",
    "tiny-imagenet": "tiny-imagenet",
    "imagenet": "imagenet-sample",
    "voc": "bccd",
    "coco": "coco-mini",
    "camvid": "camvid",
    "mask-png": "coco128-yolo",
    "coco-panoptic": "coco128-yolo",
    "pennfudan": "pennfudan",
    "lsp": "lspet-400",
    "mpii": "pose-samples/mpii",
    "crowdpose": "pose-samples/crowdpose",
    "ochuman": "pose-samples/ochuman",
    "idx": "mnist-t10k",
    "yolo": "coco128-yolo/object_detection",
}
APART = {"yolo": "coco128-yolo/images"}  # where the images lie


def test_the_names_are_the_modules_on_disk():
    names = {"cifar", "coco", "coco-panoptic", "idx", "imagefolder", "imagenet", "pennfudan", "voc", "yolo"}
    masks = {"tiny-imagenet", "camvid", "cityscapes", "mask-png", "voc-segmentation"}
    pose = {"crowdpose", "lsp", "mpii", "ochuman", "posetrack"}
    assert formats.names() == sorted(names | masks | pose)


def test_an_unknown_format_answers_with_those_that_exist(tmp_path: Path):
    with pytest.raises(ValueError, match=rf"'csv' is unknown: use one of {', '.join(formats.names())}"):
        formats.open_source("csv", tmp_path)


def test_a_shared_module_is_no_format(tmp_path: Path):
    with pytest.raises(ValueError, match="unknown"):
        formats.open_source("-files", tmp_path)


@pytest.mark.parametrize("fmt", formats.names())
def test_a_root_that_is_no_folder_is_refused(fmt: str, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotFoundError, match="gone does not exist"):
        formats.open_source(fmt, tmp_path / "gone")
    with pytest.raises(ValueError, match="is a file"):
        formats.open_source(fmt, tmp_path / "file")
    with pytest.raises(FileNotFoundError, match="gone does not exist"):
        formats.open_source(fmt, tmp_path, images=tmp_path / "gone")


@pytest.mark.parametrize("fmt", formats.names())
def test_a_folder_of_another_kind_is_one_clear_line(fmt: str, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("nothing here")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="looked for") as error:
        formats.open_source(fmt, tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "fmt",
    ["imagefolder", "pennfudan", "lsp", "tiny-imagenet", "imagenet", "camvid", "cityscapes", "cifar", "idx"],
)
def test_another_image_folder_is_refused_where_it_means_nothing(fmt: str, tmp_path: Path):
    with pytest.raises(ValueError, match="leave out the image folder"):
        formats.open_source(fmt, tmp_path, images=tmp_path)


def test_only_the_module_of_the_format_is_imported(tmp_path: Path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.jpg").write_bytes(b"")
    code = f"""
import sys
from pathlib import Path
from stages.data.formats import open_source
open_source("imagefolder", Path({str(tmp_path)!r}))
print([name for name in ("torch", "scipy", "pycocotools", "stages.data.formats.voc") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("fmt", "folder"), REAL.items())
def test_real_sources_are_sorted_unique_repeatable_and_readable(fmt: str, folder: str, shared_data: Path):
    images = shared_data / APART[fmt] if fmt in APART else None
    source = formats.open_source(fmt, shared_data / folder, images)
    items = list(source.records())
    paths = [item.path for item in items]
    assert isinstance(source, Source)
    assert paths == sorted(set(paths))
    assert items == list(source.records())
    assert not any(path.startswith("/") for path in paths)
    first = next(item for item in items if isinstance(item, Record))
    if fmt != "idx":  # whose images are no files
        assert first.image.read() == ((images or shared_data / folder) / first.path).read_bytes()
    assert all(isinstance(item, Record | Rejected) for item in items)
    used = {label for item in items if isinstance(item, Record) for label in item.labels}
    used |= {box.label for item in items if isinstance(item, Record) for box in item.boxes or ()}
    if fmt == "yolo":
        assert used <= set(source.classes)
        return
    named = {name for item in items if isinstance(item, Record) and item.mask for name in item.mask.names.values()}
    assert used == set(source.classes) if not named else named <= set(source.classes)
