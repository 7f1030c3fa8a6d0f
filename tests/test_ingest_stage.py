"""Ingest: growth that rewrites nothing, the same bytes for the same source, and all or nothing when it fails."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from stages import ingest as stage
from stages.data.dataset import Dataset, Description
from stages.data.records import Blob, Box, Record, Rejected, Source
from stages.ingest import IngestReport, ingest

ROOT = Path(__file__).parents[1]
CLASSES = {"cat": "house cat", "dog": "dog"}


def picture(file, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (24 + seed % 7, 32, 3), np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, "JPEG")


@pytest.fixture
def images(tmp_path):
    """30 small JPEGs."""
    for number in range(30):
        picture(tmp_path / "images" / f"{number:02d}.jpg", number)
    return tmp_path / "images"


def source(images, numbers=range(30), classes=CLASSES, task="classification", items=(), **changes):
    """Even numbers are cats, odd ones dogs."""
    records = [
        Record(f"{i:02d}.jpg", Blob(images / f"{i:02d}.jpg"), labels=(("cat", "dog")[i % 2],), **changes)
        for i in numbers
    ]
    return Source(task, classes, lambda: iter([*records, *items]), origin="a test")


def add(folder, source, **options):
    return ingest(folder, source, **{"progress": False, "workers": 1, **options})


def contents(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def inodes(folder):
    return {str(f.relative_to(folder)): (f.stat().st_ino, f.stat().st_mtime_ns) for f in folder.rglob("*")}


def labels(folder):
    table = Dataset(folder).table(columns=["source", "labels", "split"])
    return {row["source"]: (row["labels"], row["split"]) for row in table.to_pylist()}


def test_first_ingest(tmp_path, images):
    report = add(tmp_path / "pets", source(images))
    assert (report.added, report.unchanged, report.relabelled, report.rejected) == (30, 0, 0, [])
    assert (report.batch, report.shards_added, report.shards_rewritten) == (1, 1, 0)
    assert report.classes == {"cat": 15, "dog": 15} and sum(report.splits.values()) == 30
    dataset = Dataset(tmp_path / "pets")
    assert dataset.splits == dict(sorted(report.splits.items(), key=lambda s: ["train", "val", "test"].index(s[0])))
    assert dataset.description == Description("classification", CLASSES, origin="a test")
    for row in dataset.table().to_pylist():
        data = (images / row["source"]).read_bytes()
        assert dataset.read(row["shard"], row["offset"], row["size"]) == data
        assert row["labels"] == [("cat", "dog")[int(row["source"][:2]) % 2]]


def test_twice_into_two_folders_gives_the_same_bytes(tmp_path, images):
    add(tmp_path / "a", source(images))
    shutil.copytree(images, tmp_path / "moved")
    add(tmp_path / "b", source(tmp_path / "moved"))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_number_of_workers_changes_nothing(tmp_path, images):
    for copy in range(30, 300):
        shutil.copy(images / f"{copy % 30:02d}.jpg", images / f"{copy}.jpg")
    add(tmp_path / "a", source(images, range(300)), workers=1)
    add(tmp_path / "b", source(images, range(300)), workers=2)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_again_writes_nothing(tmp_path, images):
    folder = tmp_path / "pets"
    add(folder, source(images))
    before = inodes(folder)
    report = add(folder, source(images))
    assert (report.added, report.unchanged, report.batch, report.shards_added) == (0, 30, None, 0)
    assert inodes(folder) == before
    assert add(folder, source(images, range(29, -1, -1))).unchanged == 30
    assert inodes(folder) == before


def test_growth_leaves_old_shards_alone(tmp_path, images):
    folder = tmp_path / "pets"
    add(folder, source(images, range(20)))
    before, old = inodes(folder / "shards") | inodes(folder / "index"), contents(folder)
    splits = labels(folder)
    report = add(folder, source(images))
    assert (report.added, report.unchanged, report.batch) == (10, 20, 2)
    now = inodes(folder / "shards") | inodes(folder / "index")
    assert {name: now[name] for name in before} == before
    assert {name: contents(folder)[name] for name in old} == old
    assert {name: labels(folder)[name] for name in splits} == splits
    batches = Dataset(folder).table(columns=["batch"])["batch"].to_pylist()
    assert (batches.count(1), batches.count(2)) == (20, 10)


def test_branches_that_each_add_data_do_not_touch_each_other(tmp_path, images):
    add(tmp_path / "base", source(images, range(10)))
    base = contents(tmp_path / "base")
    for branch, numbers in (("ours", range(10, 20)), ("theirs", range(20, 30))):
        shutil.copytree(tmp_path / "base", tmp_path / branch)
        add(tmp_path / branch, source(images, numbers))
    ours, theirs = contents(tmp_path / "ours"), contents(tmp_path / "theirs")
    assert {n: ours[n] for n in base} == {n: theirs[n] for n in base} == base
    assert not (ours.keys() - base.keys()) & (theirs.keys() - base.keys())
    for name, data in theirs.items():  # what DVC's merge driver does
        (tmp_path / "ours" / name).write_bytes(data)
    assert len(Dataset(tmp_path / "ours").table()) == 30


def test_branches_that_overlap_merge_too(tmp_path, images):
    add(tmp_path / "ours", source(images, range(20)))
    add(tmp_path / "theirs", source(images, range(10, 30)))
    for name, data in contents(tmp_path / "theirs").items():
        (tmp_path / "ours" / name).write_bytes(data)
    assert len(Dataset(tmp_path / "ours").table()) == 30
    assert add(tmp_path / "ours", source(images)).unchanged == 30


def test_relabelled_images_move_and_their_shard_alone_is_rewritten(tmp_path, images):
    folder = tmp_path / "pets"
    add(folder, source(images, range(10)))
    add(folder, source(images, range(10, 30)))
    before = contents(folder)
    fixed = Source(
        "classification", CLASSES, lambda: iter([Record("03.jpg", Blob(images / "03.jpg"), labels=("cat",))])
    )
    report = add(folder, fixed)
    assert (report.relabelled, report.added, report.batch) == (1, 0, 3)
    assert (report.shards_added, report.shards_rewritten) == (1, 1)
    after = contents(folder)
    assert len(before.keys() & after.keys()) == 3, "dataset.yaml and the other shard with its index"
    assert all(before[n] == after[n] for n in before.keys() & after.keys())
    assert labels(folder)["03.jpg"][0] == ["cat"] and len(labels(folder)) == 30
    batches = {r["source"]: r["batch"] for r in Dataset(folder).table().to_pylist()}
    assert (batches["03.jpg"], batches["04.jpg"], batches["20.jpg"]) == (3, 1, 2)
    assert add(folder, fixed).unchanged == 1
    for row in Dataset(folder).table().to_pylist():
        data = Dataset(folder).read(row["shard"], row["offset"], row["size"])
        assert data == (images / row["source"]).read_bytes()


def test_split_spec_moves_samples_and_no_spec_leaves_them(tmp_path, images):
    folder = tmp_path / "pets"
    add(folder, source(images, split="train"))
    report = add(folder, source(images), split="val=0.5,test=0.5")
    assert report.relabelled == 30 and set(Dataset(folder).splits) == {"val", "test"}
    before = inodes(folder)
    assert add(folder, source(images)).unchanged == 30
    assert inodes(folder) == before
    assert add(folder, source(images, split="train")).relabelled == 30
    assert Dataset(folder).splits == {"train": 30}


def test_groups_stay_together(tmp_path, images):
    for video in range(6):
        add(tmp_path / "clips", source(images, range(video * 5, video * 5 + 5), group=f"video {video}"))
    table = Dataset(tmp_path / "clips").table(columns=["group", "split"]).to_pylist()
    assert all(len({r["split"] for r in table if r["group"] == f"video {v}"}) == 1 for v in range(6))


def test_same_image_at_two_paths_is_two_samples(tmp_path, images):
    shutil.copy(images / "00.jpg", images / "30.jpg")
    assert add(tmp_path / "pets", source(images, range(31))).added == 31
    hashes = Dataset(tmp_path / "pets").table(columns=["sha256"])["sha256"].to_pylist()
    assert len(set(hashes)) == 30


def test_new_classes_come_last(tmp_path, images):
    folder = tmp_path / "pets"
    add(folder, source(images, range(10)))
    add(folder, source(images, range(20), classes={"ant": "ant", "dog": "hound"}))
    assert list(Dataset(folder).titles.items()) == [("cat", "house cat"), ("dog", "dog"), ("ant", "ant")]
    before = inodes(folder)
    add(folder, source(images, range(20), classes={"dog": "dog", "cat": "cat"}))
    assert inodes(folder) == before


def test_another_task_is_refused(tmp_path, images):
    folder = tmp_path / "pets"
    add(folder, source(images, range(10)))
    before = inodes(folder)
    with pytest.raises(ValueError, match="for detection"):
        add(folder, source(images, task="detection"))
    assert inodes(folder) == before


def test_boxes_are_counted_where_images_have_no_labels(tmp_path, images):
    boxes = (Box("cat", (0, 0, 5, 5)), Box("cat", (1, 1, 5, 5)), Box("dog", (2, 2, 5, 5)))
    items = [
        Record("00.jpg", Blob(images / "00.jpg"), boxes=boxes),
        Record("01.jpg", Blob(images / "01.jpg"), boxes=()),
    ]
    report = add(tmp_path / "pets", Source("detection", CLASSES, lambda: iter(items)))
    assert report.classes == {"cat": 2, "dog": 1}
    objects = Dataset(tmp_path / "pets").table().to_pylist()
    assert sorted(len(row["objects"]) for row in objects) == [0, 3]


def bad_items(images):
    (images / "cut.jpg").write_bytes((images / "00.jpg").read_bytes()[:-50])
    return [Rejected("x.jpg", "no annotation"), Record("cut.jpg", Blob(images / "cut.jpg"), labels=("cat",))]


def test_bad_files_are_reported_and_the_rest_goes_on(tmp_path, images):
    report = add(tmp_path / "pets", source(images, items=bad_items(images)))
    assert report.added == 30
    assert [path for path, _ in report.rejected] == ["x.jpg", "cut.jpg"]
    assert "truncated" in report.rejected[1][1]


def test_strict_leaves_the_dataset_as_it_was(tmp_path, images):
    folder = tmp_path / "data" / "pets"
    strict = {"strict": True}
    with pytest.raises(ValueError, match=r"x\.jpg: no annotation"):
        add(folder, source(images, items=bad_items(images)), **strict)
    assert not folder.exists()
    add(folder, source(images, range(10)))
    before = contents(folder)
    with pytest.raises(ValueError, match=r"x\.jpg: no annotation"):
        add(folder, source(images, classes={"new": "new"}, items=bad_items(images)), **strict)
    assert contents(folder) == before


def test_nothing_accepted_is_an_error(tmp_path, images):
    with pytest.raises(ValueError, match=r"2 rejected, the first is x\.jpg: no annotation"):
        add(tmp_path / "pets", source(images, [], items=bad_items(images)))
    with pytest.raises(ValueError, match="it lists none"):
        add(tmp_path / "pets", source(images, []))
    assert not (tmp_path / "pets").exists()


def test_failure_before_the_first_record_leaves_no_folder(tmp_path, images, monkeypatch):
    monkeypatch.setattr(stage.index, "Known", lambda folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        add(tmp_path / "pets", source(images))
    assert not (tmp_path / "pets").exists()


def test_the_source_stays_as_it_is(tmp_path, images):
    before = inodes(images)
    add(tmp_path / "pets", source(images))
    assert inodes(images) == before


def test_one_ingest_at_a_time(tmp_path, images):
    (tmp_path / "pets").mkdir()
    number = os.open(tmp_path / "pets", os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError, match="another ingest is writing to"):
            add(tmp_path / "pets", source(images))
        assert (tmp_path / "pets").exists(), "it is the other's"
    finally:
        os.close(number)
    assert add(tmp_path / "pets", source(images)).added == 30


def test_failure_while_shards_are_put_in_place_loses_nothing(tmp_path, images, monkeypatch):
    """Stopped after each of the renames and deletions of a relabelling; the next ingest puts it right."""
    relabelled = source(images, range(10), classes=CLASSES)
    moved = replace(relabelled, records=lambda: (replace(r, labels=("cat",)) for r in relabelled.records()))
    rename, unlink = Path.replace, Path.unlink
    add(tmp_path / "whole", source(images))
    add(tmp_path / "whole", moved)
    for steps in range(6):
        folder = tmp_path / str(steps)
        add(folder, source(images))
        left = iter(range(steps))

        def limited(action, left=left):
            def act(self, *args):
                if self.parent.name in ("shards", "index") and next(left, None) is None:
                    raise SystemExit("killed")
                return action(self, *args)

            return act

        monkeypatch.setattr(Path, "replace", limited(rename))
        monkeypatch.setattr(Path, "unlink", limited(unlink))
        with pytest.raises(SystemExit):
            add(folder, moved)
        monkeypatch.undo()
        add(folder, moved)
        assert labels(folder) == labels(tmp_path / "whole")
        assert not list(folder.rglob("*.tmp"))
        assert len(list(folder.glob("shards/*"))) == len(list(folder.glob("index/*"))) == 2


SLOW = """
import sys, time
from pathlib import Path
from stages.data.records import Blob, Record, Source
from stages.ingest import ingest

def records():
    for i in range(600):
        yield Record(f"{i:03d}", Blob(Path(sys.argv[1])), labels=("a",))
    Path(sys.argv[2], "shards", "0.tar.tmp").parent.mkdir(exist_ok=True)
    Path(sys.argv[2], "shards", "0.tar.tmp").write_bytes(b"half a shard")
    time.sleep(60)

if __name__ == "__main__":
    ingest(Path(sys.argv[2]), Source("classification", {"a": "a"}, records), progress=False, workers=2)
"""


def wait_until(condition, timeout_s=60.0):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def test_killed_ingest_leaves_no_process_and_the_old_state(tmp_path, images):
    folder = tmp_path / "pets"
    add(folder, source(images))
    before = contents(folder)
    (tmp_path / "slow.py").write_text(SLOW)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "slow.py", images / "00.jpg", folder], env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    wait_until((folder / "shards" / "0.tar.tmp").exists)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not any(c.is_running() and c.status() != psutil.STATUS_ZOMBIE for c in children))
    assert {n: d for n, d in contents(folder).items() if not n.endswith(".tmp")} == before
    assert add(folder, source(images)).unchanged == 30
    assert contents(folder) == before


def test_report_is_the_same_for_the_same_work(tmp_path, images):
    reports = [add(tmp_path / name, source(images, items=bad_items(images))).document() for name in "ab"]
    assert reports[0] == reports[1]
    assert isinstance(add(tmp_path / "a", source(images)), IngestReport)


def test_progress_lines_when_there_is_no_terminal(tmp_path, images, capsys, monkeypatch):
    monkeypatch.setattr(stage, "LINES_PERIOD_S", 0.0)
    add(tmp_path / "pets", source(images, items=bad_items(images)), progress=True)
    assert "32 read" in capsys.readouterr().err
