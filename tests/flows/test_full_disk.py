"""A disk that fills up under `visionline`: one clear line, nothing half-made, and the same command goes on later."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

NO_SPACE = ("No space left on device", "database or disk is full", "disk I/O error", "Out of diskspace")


def told(done: Any) -> str:
    """The line of a command that ended for want of space."""
    assert done.returncode == 1, done.stdout + done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert any(words in line for words in NO_SPACE), line
    assert "; free some space on the disk of " in line and line.endswith(", then run the same command again")
    return line


def state_of(clone: Any) -> dict[str, bytes]:
    """All that counts of the datasets: pointers, files and params.yaml."""
    files = [file for file in (clone.root / "data").rglob("*") if file.is_file()]
    return {str(file.relative_to(clone.root)): file.read_bytes() for file in [*files, clone.root / "params.yaml"]}


def pictures(bare: Any) -> Path:
    return bare.root / ".visionline/shapes/imagefolder/train"


@pytest.fixture(scope="module")
def first(bare: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A clone with a first version of a dataset, which lacks a class."""
    folder = tmp_path_factory.mktemp("first")
    clone = bare.copy(folder / "project")
    shutil.copytree(pictures(bare), folder / "source")
    shutil.rmtree(sorted((folder / "source").iterdir())[0])
    clone.ok("ingest", "things", str(folder / "source"), "--format", "imagefolder", "--split", "train")
    return clone


def ingest(clone: Any, bare: Any) -> Any:
    """The second version: one class more, and images that move to another split, so that a shard is replaced."""
    options = ("--split", "train=0.5,val=0.2,test=0.3", "--task", "classification")
    return clone.visionline("ingest", "things", str(pictures(bare)), "--format", "imagefolder", *options)


@pytest.fixture(scope="module")
def undisturbed(first: Any, bare: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], str]:
    """What the second version is when there is space, and the subject of its commit."""
    clone = first.copy(tmp_path_factory.mktemp("undisturbed") / "project")
    done = ingest(clone, bare)
    assert done.returncode == 0, done.stderr
    return state_of(clone), clone.git("log", "-1", "--format=%s")


# What the small disk holds, and how many KiB are left: not enough for shards, DVC's databases, the cache, a commit.
@pytest.mark.parametrize(("place", "leave_kib"), [("", 0), ("", 64), ("", 260), (".dvc/cache", 8), (".git", 0)])
def test_an_ingest_leaves_the_former_version_and_comes_to_the_same_later(
    first: Any, bare: Any, undisturbed: Any, disk: Any, tmp_path: Path, place: str, leave_kib: int
) -> None:
    shutil.copytree(first.root, tmp_path / "disk/project", symlinks=True)
    clone = type(first)(tmp_path / "disk/project")
    small = disk(clone.root / place if place else tmp_path / "disk", 24)
    before, head = state_of(clone), clone.git("rev-parse", "HEAD")
    clone.dvc("status")
    small.fill(1024 * leave_kib)
    told(ingest(clone, bare))
    assert state_of(clone) == before
    small.free()
    assert clone.git("status", "--porcelain") == ""
    assert clone.git("rev-parse", "HEAD") == head
    assert clone.dvc("status", "data/things.dvc").strip() == "Data and pipelines are up to date."

    again = ingest(clone, bare)
    assert again.returncode == 0, again.stderr
    assert (state_of(clone), clone.git("log", "-1", "--format=%s")) == undisturbed
    assert clone.git("status", "--porcelain") == ""


def weights(clone: Any) -> bytes:
    return (clone.root / "models/patterns/weights.safetensors").read_bytes()


def forget_model(clone: Any) -> Path:
    """Lose a model, here and in the cache, so that the next run trains it again; where the cache had its weights."""
    shutil.rmtree(clone.root / "models/patterns")
    (out,) = clone.yaml("dvc.lock")["stages"]["finetune@patterns"]["outs"]
    cached = clone.root / ".dvc/cache/files/md5" / out["md5"][:2] / out["md5"][2:]
    listed = {entry["relpath"]: entry["md5"] for entry in json.loads(cached.read_text())}
    files = {name: cached.parents[1] / md5[:2] / md5[2:] for name, md5 in listed.items()}
    for file in [cached, *files.values()]:
        file.unlink()
    return files["weights.safetensors"]


def is_as_if_undisturbed(clone: Any, ran: Any) -> bool:
    """Whether nothing in models and registry shows that the disk was full once."""
    assert clone.sql("SELECT name FROM runs WHERE status = 'RUNNING'") == []
    assert clone.aliases("patterns") == {"challenger": 1, "champion": 1}
    assert clone.sql("SELECT count(*) FROM model_versions WHERE name = 'patterns'") == [(1,)]
    assert clone.git("status", "--porcelain") == ""
    return weights(clone) == weights(ran.clone)


@pytest.mark.long
def test_a_training_that_can_not_write_its_model_is_named_and_comes_to_the_same_bits_later(
    clone: Any, ran: Any, disk: Any
) -> None:
    forget_model(clone)
    small = disk(clone.root / "models", 250)
    before = small.files()
    small.fill()
    line = told(clone.visionline("run", "--only", "patterns"))
    assert line.startswith("visionline: stage finetune@patterns failed: finetune patterns: ")
    assert "models/" in line
    assert small.files() == before
    runs = clone.sql("SELECT status FROM runs WHERE name = 'finetune@patterns' ORDER BY start_time DESC")
    assert runs == [("FAILED",), ("FINISHED",)]
    small.free()
    clone.ok("run", "--only", "patterns")
    assert is_as_if_undisturbed(clone, ran)


@pytest.mark.long
def test_a_model_that_finds_no_space_in_the_cache_gets_there_by_the_next_run(clone: Any, ran: Any, disk: Any) -> None:
    weights_in_cache = forget_model(clone)
    small = disk(clone.root / ".dvc/cache", 250)
    small.fill(leave_bytes=64 << 10)
    line = told(clone.visionline("run", "--only", "patterns"))
    assert line.startswith("visionline: stage finetune@patterns failed: failed to transfer ")
    assert weights(clone) == weights(ran.clone)  # it is whole, and DVC takes it for done
    assert not weights_in_cache.exists()
    again = clone.visionline("run", "--only", "patterns")
    assert (again.returncode, "DVC's cache" in again.stderr, "models/patterns" in again.stderr) == (1, True, True)
    small.free()
    clone.ok("run", "--only", "patterns")
    assert weights_in_cache.read_bytes() == weights(clone)
    assert is_as_if_undisturbed(clone, ran)


def test_a_checkpoint_that_finds_no_space_leaves_the_last_one_to_go_on_from(clone: Any, ran: Any, disk: Any) -> None:
    shutil.rmtree(clone.root / "models/patterns")
    small = disk(clone.root / ".visionline/checkpoints", 500)
    small.fill(leave_bytes=280 << 20)  # one of 170 MiB fits, but not the next beside it
    done = clone.stage("finetune", "patterns", VISIONLINE_SAVE_EVERY_S="0")
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("finetune patterns: ")]
    assert "No space left on device" in line and "state.pt'; free some space" in line
    assert "Traceback" not in done.stderr
    (kept,) = small.files()
    assert kept.endswith("/state.pt")
    assert not (clone.root / "models/patterns").exists()
    small.free()
    done = clone.stage("finetune", "patterns")
    assert done.returncode == 0, done.stderr
    assert weights(clone) == weights(ran.clone)
    assert small.files() == []


@pytest.mark.long
def test_a_run_that_can_not_log_ends_and_the_next_one_leaves_nothing_open(clone: Any, ran: Any, disk: Any) -> None:
    forget_model(clone)
    small = disk(clone.root / ".visionline", 600)
    for leave_kib in (0, 48):  # not even a run of MLflow's begins; it begins, and what a stage logs is too much
        small.fill(1024 * leave_kib)
        done = clone.visionline("run", "--only", "patterns")
        small.free()
        assert done.returncode == 1, (leave_kib, done.stdout)
        *others, last = done.stderr.strip().splitlines()
        assert last.startswith("visionline: "), (leave_kib, done.stderr)
        assert "; free some space on the disk of " in done.stderr, (leave_kib, done.stderr)
        assert all(line.startswith("and then: ") for line in others), (leave_kib, done.stderr)
    clone.ok("run", "--only", "patterns")
    assert clone.sql("SELECT name FROM runs WHERE status = 'RUNNING'") == []  # also of what could not be told its end
    assert is_as_if_undisturbed(clone, ran)


@pytest.mark.long
def test_neither_a_version_nor_a_champion_is_made_by_half(clone: Any, disk: Any) -> None:
    report = clone.root / "reports/evaluate/patterns.json"
    changed = report.read_bytes() + b"\n"
    report.unlink()  # it may be a link into the cache
    report.write_bytes(changed)  # a model with another report is another version
    small = disk(clone.root / ".visionline", 600)
    versions = "SELECT version FROM model_versions WHERE name = 'patterns' ORDER BY version"
    for leave_mib in (0, 4):  # for a run, for its artifacts
        small.fill(leave_mib << 20)
        done = clone.stage("register", "patterns")
        assert done.returncode == 1
        assert done.stderr.strip().splitlines()[-1].startswith("register patterns: ")
        assert "Traceback" not in done.stderr
        small.free()
        assert clone.sql(versions) == [(1,)]
        assert clone.aliases("patterns") == {"challenger": 1, "champion": 1}
    assert clone.stage("register", "patterns").returncode == 0
    assert clone.sql(versions) == [(1,), (2,)]

    forced = ("promote", "patterns", "--force", "--reason", "the test says so")
    small.fill()
    told(clone.visionline(*forced))
    small.free()
    assert clone.aliases("patterns") == {"challenger": 2, "champion": 1}
    assert [entry["version"] for entry in json.loads(clone.ok("history", "patterns", "--json"))] == ["1"]
    clone.ok(*forced)
    assert clone.aliases("patterns") == {"challenger": 2, "champion": 2}
    assert [entry["version"] for entry in json.loads(clone.ok("history", "patterns", "--json"))] == ["1", "2"]
