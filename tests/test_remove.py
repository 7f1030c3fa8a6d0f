"""The stage `remove`: what evaluations wrote of an image goes with it, and nothing of the other images."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages import remove
from stages.data import history, objects
from stages.data.lookup import Sighting
from stages.tracking import exposure
from stages.tracking.records import Records, Run

GONE, STAYS, ALIKE = "a" * 16, "b" * 16, "c" * 16
OLD, NEW = "0" * 32 + ".dir", "1" * 32 + ".dir"  # versions of the dataset
WRITTEN = {
    "confusion.png": b"numbers of all images",
    "worst.png": b"pictures",
    "predictions.json": b"answers",
    f"predictions/{GONE}.png": b"its map",
    f"predictions/{STAYS}.png": b"another map",
    "cityscapes/ulm_000000_000019_pred_labelIds.png": b"its map in label ids",
    "cityscapes/ulm_000001_000019_pred_labelIds.png": b"another map in label ids",
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("")
    objects.places.cache_clear()
    history.listing.cache_clear()
    yield tmp_path
    objects.places.cache_clear()
    history.listing.cache_clear()


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def evaluated(task: str, version: str, files: dict[str, bytes]) -> Run:
    """An evaluation whose files lie in the folder of reports, and in the cache."""
    for path, data in files.items():
        objects.write(Path(exposure.EVALUATIONS, task, path), data)
        objects.write(objects.cached(md5(data)), data)
    listing = json.dumps([{"relpath": path, "md5": md5(data)} for path, data in files.items()]).encode()
    digest = f"{md5(listing)}.dir"
    objects.write(objects.cached(digest), listing)
    outs = {f"{exposure.EVALUATIONS}/{task}": digest, f"{exposure.EVALUATIONS}/{task}.json": "2" * 32}
    return Run(f"run of {task}", "1", "evaluate", task, "", 0.0, {"data/streets": version}, outs, {}, {}, {}, {}, "")


def sighting(split: str = "test") -> Sighting:
    source = "leftImg8bit/test/ulm/ulm_000000_000019_leftImg8bit.png"
    return Sighting("streets", GONE, "f" * 64, split, [], source, "shard", (OLD,), 0)


def purged(known: Records) -> dict[str, int]:
    """What a purge of the image does, but for its shards."""
    derived, shared = remove._derived(known, [sighting()])
    kept = sorted(set().union(*derived.values()) - shared)
    doomed = {"shards": [], "derived": {p: sorted(d) for p, d in derived.items()}, "derived objects": kept}
    return remove.purge({"purge": {**doomed, "artifacts": []}})


def there(task: str) -> set[str]:
    folder = Path(exposure.EVALUATIONS, task)
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


LEFT = {
    "confusion.png", f"predictions/{STAYS}.png", "cityscapes/ulm_000001_000019_pred_labelIds.png",
}  # fmt: skip


def test_maps_answers_and_pictures_of_an_image_go_and_those_of_others_stay(here: Path) -> None:
    other = {path: b"other " + data for path, data in WRITTEN.items()}
    known = Records((evaluated("old", OLD, WRITTEN), evaluated("new", NEW, other)), ())
    assert purged(known) == {"cache": 4, "MLflow artifacts": 0}
    assert there("old") == LEFT and there("new") == {*WRITTEN}
    cached = {path for path, data in WRITTEN.items() if objects.cached(md5(data)).is_file()}
    assert cached == LEFT
    assert all(objects.cached(md5(data)).is_file() for data in other.values())


def test_an_object_that_another_image_has_too_stays_in_the_cache(here: Path) -> None:
    plain = WRITTEN | {f"predictions/{GONE}.png": b"one class", f"predictions/{ALIKE}.png": b"one class"}
    assert purged(Records((evaluated("old", OLD, plain),), ())) == {"cache": 3, "MLflow artifacts": 0}
    assert there("old") == LEFT | {f"predictions/{ALIKE}.png"}
    assert objects.cached(md5(b"one class")).is_file()


def test_an_evaluation_that_came_later_keeps_its_files(here: Path) -> None:
    known = Records((evaluated("streets", OLD, WRITTEN),), ())
    later = Path(exposure.EVALUATIONS, "streets/predictions.json")
    later.write_bytes(b"answers without it")
    purged(known)
    assert later.read_bytes() == b"answers without it" and there("streets") == LEFT | {"predictions.json"}


def test_pictures_that_an_evaluation_without_the_image_drew_too_stay_there(here: Path) -> None:
    other = {path: b"other " + data for path, data in WRITTEN.items()} | {"worst.png": WRITTEN["worst.png"]}
    purged(Records((evaluated("old", OLD, WRITTEN), evaluated("new", NEW, other)), ()))
    assert there("new") == {*WRITTEN} and there("old") == LEFT | {"worst.png"}
    assert objects.cached(md5(WRITTEN["worst.png"])).is_file()


def test_an_evaluation_whose_list_only_a_remote_has_keeps_its_objects(here: Path) -> None:
    (here / ".dvc/config").write_text(f"[core]\n    no_scm = true\n['remote \"store\"']\n    url = {here / 'store'}\n")
    plain = {f"predictions/{GONE}.png": b"one class"}
    other = evaluated("new", NEW, {f"predictions/{STAYS}.png": b"one class", "curves.png": b"curves"})
    known = Records((evaluated("old", OLD, WRITTEN | plain), other), ())
    listing = objects.cached(exposure.folder_of(other) or "")
    stored = here / "store/files/md5" / listing.relative_to(objects.places().cache)
    objects.write(stored, listing.read_bytes())
    listing.unlink()
    assert purged(known)["cache"] == 3
    assert objects.cached(md5(b"one class")).is_file()


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_image_that_nothing_was_measured_on_is_in_no_evaluation(here: Path, split: str) -> None:
    known = Records((evaluated("old", OLD, WRITTEN),), ())
    assert remove._derived(known, [sighting(split)])[0] == {}
    assert exposure.artifacts(known, [sighting(split)]) == []


def test_artifacts_of_mlflow_are_those_that_the_run_wrote(here: Path) -> None:
    known = Records((evaluated("old", OLD, WRITTEN),), ())
    (found,) = exposure.artifacts(known, [sighting()])
    assert found["files"] == [f"pictures/{path}" for path in sorted({*WRITTEN} - LEFT)]
    objects.cached(exposure.folder_of(known.runs[0]) or "").unlink()
    (found,) = exposure.artifacts(known, [sighting()])
    assert {f"pictures/{path}" for path in {*WRITTEN} - LEFT} < {*found["files"]}
    history.listing.cache_clear()
    assert remove._derived(known, [sighting()]) == ({}, set())
