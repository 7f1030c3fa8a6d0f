"""Our hashes are DVC's: compared with a real `dvc add`."""

import subprocess
import sys

import pytest
from ruamel.yaml import YAML

from stages.data.versions import hash_file, hash_path


def run(*args, cwd):
    subprocess.run(args, cwd=cwd, check=True, capture_output=True, text=True)


def pointer(path):
    (out,) = YAML(typ="safe").load(path.with_name(path.name + ".dvc"))["outs"]
    assert out["hash"] == "md5"
    return out["md5"]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "data" / "things"
    for name, data in {
        "b.txt": b"line\r\nline\n",  # DVC 2 hashed text with other line ends
        "a.bin": bytes(range(256)) * 20_000,
        "empty": b"",
        "sub.dir/z": b"z",
        "sub/ünï code.txt": b"1",
        "sub/deep/.hidden": b"2",
        "sub-1": b"3",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "no files").mkdir()
    (folder / "link").symlink_to(folder / "b.txt")
    return folder


def test_same_as_dvc_add(tmp_path, folder):
    file = tmp_path / "data" / "single.bin"
    file.write_bytes(b"\0\1" * 100_000)
    ours = hash_path(folder), hash_path(file)
    run("git", "init", "-q", cwd=tmp_path)
    run(sys.executable, "-m", "dvc", "init", "-q", cwd=tmp_path)
    run(sys.executable, "-m", "dvc", "add", "-q", "data/things", "data/single.bin", cwd=tmp_path)
    assert ours == (pointer(folder), pointer(file))
    assert ours[0].endswith(".dir") and len(ours[0]) == 36


def test_content_and_names_count(folder):
    before = hash_path(folder)
    (folder / "empty").rename(folder / "void")
    assert hash_path(folder) != before
    (folder / "void").rename(folder / "empty")
    assert hash_path(folder) == before


def test_file(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    assert hash_file(tmp_path / "f") == hash_path(tmp_path / "f") == "900150983cd24fb0d6963f7d28e17f72"  # RFC 1321
    with pytest.raises(FileNotFoundError):
        hash_path(tmp_path / "none")
