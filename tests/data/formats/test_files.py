"""stages/data/formats/_files.py: walking, and names that come from annotations."""

import inspect
import os
import sys
from pathlib import Path

import pytest

from stages.data.formats._files import Catalogue, relative, shared_folders, stem, walk
from stages.data.records import Rejected


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")


def test_walk_is_sorted_as_whole_paths(tmp_path: Path):
    touch(tmp_path, "a/z.jpg", "a-b/1.jpg", "a.jpg", "B/1.jpg", "a/b/c.jpg", "é.jpg")
    found = list(walk(tmp_path))
    assert found == sorted(["a/z.jpg", "a-b/1.jpg", "a.jpg", "B/1.jpg", "a/b/c.jpg", "é.jpg"])
    assert list(walk(tmp_path, "a")) == ["a/b/c.jpg", "a/z.jpg"]


def test_walk_leaves_out_hidden_files_and_those_of_systems(tmp_path: Path):
    touch(tmp_path, ".DS_Store", ".git/x.jpg", "__MACOSX/x.jpg", "a/Thumbs.db", "a/.x.jpg", "a/x.jpg")
    assert list(walk(tmp_path)) == ["a/x.jpg"]


def test_walk_does_not_leave_the_folder(tmp_path: Path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    touch(root, "real.jpg", "inner/1.jpg")
    touch(outside, "secret.jpg")
    (root / "file.jpg").symlink_to(outside / "secret.jpg")
    (root / "folder").symlink_to(outside)
    (root / "again").symlink_to(root / "inner")
    (root / "inside.jpg").symlink_to(root / "real.jpg")
    (root / "loop.jpg").symlink_to(root / "loop.jpg")
    (root / "nothing.jpg").symlink_to(root / "gone.jpg")
    found = {item.path: item.reason for item in walk(root) if isinstance(item, Rejected)}
    assert [item for item in walk(root) if isinstance(item, str)] == ["inner/1.jpg", "inside.jpg", "real.jpg"]
    assert found["file.jpg"] == found["folder"] == "a link that leaves the source folder"
    assert "not followed" in found["again"]
    assert found["loop.jpg"] == found["nothing.jpg"] == "a link to nothing"
    assert list(walk(root, "folder")) == [Rejected("folder", "a link that leaves the source folder")]


def test_the_root_itself_may_be_a_link(tmp_path: Path):
    touch(tmp_path / "real", "a.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert list(walk(tmp_path / "link")) == ["a.jpg"]


def test_walk_reports_what_is_no_file(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"")
    assert list(walk(tmp_path)) == [
        Rejected("caf\\udce9.jpg", "file name is not UTF-8"),
        Rejected("pipe.jpg", "not a regular file"),
    ]


def test_walk_does_not_recurse_into_deep_folders(tmp_path: Path):
    path = "d/" * 300 + "x.jpg"
    touch(tmp_path, path)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 100)
    try:
        assert list(walk(tmp_path)) == [path]
    finally:
        sys.setrecursionlimit(limit)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a.jpg", "a.jpg"),
        ("./train//a.jpg", "train/a.jpg"),
        ("train\\a.jpg", "train/a.jpg"),
        ("a/../b.jpg", "b.jpg"),
        ("..a.jpg", "..a.jpg"),
        ("../a.jpg", None),
        ("a/../../b.jpg", None),
        ("..\\..\\a.jpg", None),
        ("/etc/passwd", None),
        ("C:\\images\\a.jpg", None),
        ("c:/a.jpg", None),
        ("\\\\server\\share\\a.jpg", None),
        ("a\0.jpg", None),
        ("", None),
        (".", None),
        ("..", None),
    ],
)
def test_relative_names_stay_below_the_folder(name: str, path: str | None):
    assert relative(name) == path


def test_stem_cuts_only_image_suffixes():
    assert [stem(path) for path in ("a/b.JPEG", "b.v2", "x.rf.0a1b.jpg")] == ["b", "b.v2", "x.rf.0a1b"]


def test_shared_folders_counts_from_both_ends():
    assert shared_folders("B/JPEGImages/a/1.jpg", "B/Annotations/a/1.xml") == 2
    assert shared_folders("B/JPEGImages/b/1.jpg", "B/Annotations/a/1.xml") == 1
    assert shared_folders("1.jpg", "1.xml") == 0


def test_catalogue_finds_by_the_last_parts_of_a_path(tmp_path: Path):
    touch(tmp_path, "train/a.jpg", "val/a.jpg", "val/a.png", "val/ba.jpg", "notes.txt")
    catalogue = Catalogue(tmp_path)
    assert catalogue.named("a.jpg") == ["train/a.jpg", "val/a.jpg"]
    assert catalogue.named("val/a.jpg") == ["val/a.jpg"]
    assert catalogue.named("al/a.jpg") == []
    assert catalogue.stemmed("a") == ["train/a.jpg", "val/a.jpg", "val/a.png"]
