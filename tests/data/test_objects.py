"""Where DVC's objects lie."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.data import objects

CONFIG = """[core]
    remote = shared
['remote "archive"']
    url = s3://bucket/things
['remote "shared"']
    url = ../../shared
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The root of a repository with two remotes, in a folder where DVC's own settings of this machine don't count."""
    root = tmp_path / "project"
    (root / ".dvc").mkdir(parents=True)
    (root / ".dvc/config").write_text(CONFIG)
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "global"))
    monkeypatch.setenv("DVC_SYSTEM_CONFIG_DIR", str(tmp_path / "system"))
    monkeypatch.chdir(root)
    objects.places.cache_clear()
    yield root
    objects.places.cache_clear()


def test_places_are_those_of_dvcs_configuration(repository: Path, tmp_path: Path) -> None:
    found = objects.places()
    assert found.cache == str(repository / ".dvc/cache/files/md5")
    assert list(found.remotes.items()) == [("shared", str(tmp_path / "shared")), ("archive", "s3://bucket/things")]
    said = subprocess.run([sys.executable, "-m", "dvc", "cache", "dir"], capture_output=True, text=True, check=True)
    assert str(Path(said.stdout.strip()) / "files/md5") == found.cache


@pytest.mark.parametrize("file", ["project/.dvc/config.local", "global/config"])
def test_a_file_that_comes_later_counts(repository: Path, tmp_path: Path, file: str) -> None:
    objects.places()
    objects.places.cache_clear()
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(f"[cache]\n    dir = {tmp_path}/cache\n")
    assert objects.places().cache == str(tmp_path / "cache/files/md5")


def test_places_are_found_from_a_folder_below(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (repository / "below").mkdir()
    monkeypatch.chdir(repository / "below")
    assert objects.places().cache == str(repository / ".dvc/cache/files/md5")
