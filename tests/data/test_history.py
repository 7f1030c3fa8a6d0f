"""Versions of a dataset as git and DVC remember them."""

import io
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.data import history, objects
from stages.data.records import Blob, Record, Source
from stages.ingest import ingest


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def git(*arguments: str) -> str:
    return run("git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", *arguments)


def dvc(*arguments: str) -> str:
    return run(sys.executable, "-m", "dvc", "--quiet", *arguments)


def picture(folder: Path, number: int) -> Record:
    file = folder / f"{number}.png"
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    file.write_bytes(data.getvalue())
    return Record(file.name, Blob(file), split="train" if number % 2 else "test", labels=("a",))


def add(folder: Path, numbers: range) -> str:
    """A version with these pictures more; its commit."""
    records = [picture(folder, number) for number in numbers]
    ingest(Path("data/things"), Source("classification", {"a": "a"}, lambda: iter(records)), progress=False, workers=1)
    dvc("add", "data/things")
    git("add", "data/things.dvc")
    git("commit", "--quiet", "--message", f"{numbers}")
    return git("rev-parse", "HEAD")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A repository with two versions of data/things and a remote; the commits of the versions."""
    root = tmp_path_factory.mktemp("history")
    with pytest.MonkeyPatch.context() as patch:
        (root / "project").mkdir()
        (root / "pictures").mkdir()
        patch.chdir(root / "project")
        patch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
        patch.setenv("DVC_SITE_CACHE_DIR", str(root / "dvc"))
        git("init", "--quiet", "--initial-branch", "main")
        dvc("init")
        dvc("remote", "add", "--default", "store", str(root / "remote"))
        git("commit", "--quiet", "--message", "start")
        commits = [add(root / "pictures", range(4)), add(root / "pictures", range(4, 6))]
    return root / "project", commits


@pytest.fixture
def project(made, tmp_path, monkeypatch):
    """A copy of it to change at will."""
    shutil.copytree(made[0], tmp_path / "project", symlinks=True)
    monkeypatch.chdir(tmp_path / "project")
    objects.places.cache_clear()
    history.listing.cache_clear()
    yield made[1]
    objects.places.cache_clear()
    history.listing.cache_clear()


def test_versions_come_oldest_first_with_the_commit_that_made_them(project):
    first, second = history.versions("things")
    assert [first.commit, second.commit] == project
    assert first.hash != second.hash
    assert list(history.all_versions()) == ["things"]


def test_versions_outlive_branches_and_pointers_as_long_as_a_ref_holds_them(project):
    before = history.versions("things")
    git("update-ref", "refs/visionline/runs/abc", "HEAD")
    git("checkout", "--quiet", "--orphan", "squashed")
    git("rm", "--quiet", "--cached", "data/things.dvc")
    git("commit", "--quiet", "--message", "squashed, and the dataset deleted")
    git("branch", "--delete", "--force", "main")
    assert history.versions("things") == before
    git("update-ref", "-d", "refs/visionline/runs/abc")
    assert history.versions("things") == []
    assert history.all_versions() == {}


def test_the_index_of_an_old_version_is_read_without_checking_it_out(project):
    first, second = history.versions("things")
    old = history.version_index("things", first.hash, ["source", "split"])
    assert sorted(old["source"].to_pylist()) == ["0.png", "1.png", "2.png", "3.png"]
    assert old.column_names == ["source", "split"]
    assert history.version_index("things", second.hash, ["key"]).num_rows == 6
    later = history.version_index("things", first.hash, ["mask_labels", "source"])  # a column that came after it
    assert later.column_names == ["mask_labels", "source"] and later["mask_labels"].null_count == 4


def test_what_the_cache_lacks_comes_from_the_remote(project):
    dvc("push")
    newest = history.versions("things")[-1].hash
    expected = history.version_index("things", newest, ["key", "sha256"])
    shutil.rmtree(".dvc/cache")
    history.listing.cache_clear()
    assert history.version_index("things", newest, ["key", "sha256"]) == expected
    held = objects.holders(list(history.index_files(newest).values()))
    assert {name: len(md5s) for name, md5s in held.items()} == {"store": 2}


def test_a_version_that_is_nowhere_is_named(project):
    shutil.rmtree(".dvc/cache")
    first = history.versions("things")[0].hash
    with pytest.raises(FileNotFoundError, match=rf"things.*{first[:10]}.*remote store"):
        history.version_index("things", first, ["key"])


def test_places_are_those_of_this_repository_and_of_its_configuration_now(project, tmp_path):
    assert objects.places().cache == str(tmp_path / "project/.dvc/cache/files/md5")
    objects.places.cache_clear()
    dvc("cache", "dir", "--local", str(tmp_path / "elsewhere"))
    assert objects.places().cache == str(tmp_path / "elsewhere/files/md5")
