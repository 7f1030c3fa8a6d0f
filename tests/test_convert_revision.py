"""The stage `convert` of an older version: by its commit, though nothing is checked out."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from stages.convert import convert, main
from stages.data import formats, history, objects
from stages.data.versions import hash_path
from stages.ingest import ingest


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def git(*arguments: str) -> str:
    command = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def dvc_add(folder: Path) -> None:
    """What `dvc add` leaves in the cache and beside the folder, without its second of starting."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    listing = [{"md5": hash_path(file), "relpath": file.relative_to(folder).as_posix()} for file in files]
    contents = {entry["md5"]: file.read_bytes() for entry, file in zip(listing, files, strict=True)}
    contents[hash_path(folder)] = json.dumps(listing).encode()
    for md5, data in contents.items():
        objects.write(Path(".dvc/cache/files/md5", md5[:2], md5[2:]), data)
    pointer = f"outs:\n- md5: {hash_path(folder)}\n  hash: md5\n  path: {folder.name}\n"
    folder.with_name(f"{folder.name}.dvc").write_text(pointer)


def test_an_older_version_by_its_commit(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    git("init", "--quiet")
    (here / ".dvc").mkdir()
    (here / ".dvc/config").write_text("")
    commits = []
    for number, file in enumerate((here / "source/train/cat/a.png", here / "source/train/dog/b.png")):
        file.parent.mkdir(parents=True)
        Image.new("RGB", (30, 20), (number, 0, 0)).save(file)
        ingest(Path("data/pets"), formats.open_source("imagefolder", here / "source"), progress=False, workers=1)
        dvc_add(here / "data/pets")
        git("add", "data/pets.dvc")
        git("commit", "--quiet", "--message", "more")
        commits.append(git("rev-parse", "HEAD"))
    objects.places.cache_clear()
    history.listing.cache_clear()
    shutil.rmtree("data/pets")  # nothing is checked out
    reports = [convert("pets", here / commit[:7], "imagefolder", revision=commit, progress=False) for commit in commits]
    assert [report["images"] for report in reports] == [1, 2]
    assert [report["version"] for report in reports] == [history.version_at("pets", commit) for commit in commits]
    assert [path.name for path in (here / commits[0][:7]).rglob("*.png")] == ["a.png"]
    assert not list(Path(".visionline").glob("borrowed-*"))
    with pytest.raises(ValueError, match=r"HEAD~5 holds no data/pets\.dvc"):
        convert("pets", here / "x", "imagefolder", revision="HEAD~5", progress=False)
    assert main(["pets", "x", "--format", "coco", "--rev", "nowhere"]) == 2
    shutil.rmtree(".dvc/cache")
    history.listing.cache_clear()
    with pytest.raises(FileNotFoundError, match="is not in the cache"):
        convert("pets", here / "x", "imagefolder", revision=commits[0], progress=False)
    objects.places.cache_clear()
