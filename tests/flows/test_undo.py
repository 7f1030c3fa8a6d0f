"""What a failing command changed is taken back, to the inode."""

from pathlib import Path

import pytest

from flows.undo import undone_on_failure


def fail_halfway(folder: Path, files: list[Path]) -> None:
    with undone_on_failure(folder, files):
        folder.mkdir(exist_ok=True)
        (folder / "shards").mkdir(exist_ok=True)
        (folder / "shards/old.tar").unlink(missing_ok=True)
        (folder / "shards/new.tar").write_text("new")
        for file in files:
            file.write_text("changed, and longer")
        raise RuntimeError("no space")


def test_a_folder_and_small_files_are_as_they_were(tmp_path: Path) -> None:
    folder, pointer, fresh = tmp_path / "things", tmp_path / "things.dvc", tmp_path / "new.dvc"
    (folder / "shards").mkdir(parents=True)
    old = folder / "shards/old.tar"
    old.write_text("old")
    pointer.write_text("md5: 1\n")
    inode = old.stat().st_ino
    with pytest.raises(RuntimeError, match="no space"):
        fail_halfway(folder, [pointer, fresh])
    assert (old.read_text(), old.stat().st_ino) == ("old", inode)
    assert pointer.read_text() == "md5: 1\n"
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["old.tar", "shards", "things", "things.dvc"]


def test_what_was_not_there_is_gone_again(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no space"):
        fail_halfway(tmp_path / "things", [tmp_path / "things.dvc"])
    assert list(tmp_path.iterdir()) == []


def test_what_ends_well_stays_and_a_dataset_behind_a_link_is_one_too(tmp_path: Path) -> None:
    (tmp_path / "big/things").mkdir(parents=True)
    (tmp_path / "big/things/a").write_text("a")
    link = tmp_path / "things"
    link.symlink_to(tmp_path / "big/things")
    with undone_on_failure(link, []):
        (link / "b").write_text("b")
    assert sorted(file.name for file in link.iterdir()) == ["a", "b"]
    with pytest.raises(RuntimeError, match="no space"):
        fail_halfway(link, [])
    assert link.is_symlink() and sorted(file.name for file in link.iterdir()) == ["a", "b"]
    assert [file.name for file in (tmp_path / "big").iterdir()] == ["things"]


def test_where_no_link_can_be_made_the_folder_stays_and_the_files_are_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "things/shards").mkdir(parents=True)
    (tmp_path / "things/shards/a.tar").write_text("a")
    pointer = tmp_path / "things.dvc"
    pointer.write_text("md5: 1\n")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("no hard links here")

    monkeypatch.setattr("os.link", refuse)
    with pytest.raises(RuntimeError, match="no space"):
        fail_halfway(tmp_path / "things", [pointer])
    assert pointer.read_text() == "md5: 1\n"
    assert sorted(f.name for f in tmp_path.rglob("*.tar")) == ["a.tar", "new.tar"]
