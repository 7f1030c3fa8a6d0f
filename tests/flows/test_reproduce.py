"""A registered version is built again elsewhere, from git, a DVC remote and the registry alone."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture
def elsewhere(clone: Any, tmp_path: Path) -> Any:
    """A git clone with an empty cache, the first one's DVC remote and its MLflow."""
    clone.dvc("remote", "add", "--quiet", "--default", "storage", str(tmp_path / "storage"))
    clone.dvc("push", "--quiet")
    clone.git("commit", "--quiet", "--all", "--message", "a remote")
    other = type(clone)(
        tmp_path / "elsewhere", {"MLFLOW_TRACKING_URI": f"sqlite:///{clone.root}/.visionline/mlflow.db"}
    )
    clone.git("clone", "--quiet", "--no-local", str(clone.root), str(other.root))
    return other


def tags_of(clone: Any) -> dict[str, str]:
    return dict(clone.sql("SELECT key, value FROM model_version_tags WHERE name = 'patterns' AND version = 1"))


def test_from_a_clone_without_cache_the_weights_are_the_same_bits(
    clone: Any, elsewhere: Any, tmp_path: Path, browse: Callable[[Path], str]
) -> None:
    assert not (elsewhere.root / ".dvc/cache").exists()
    runs = clone.sql("SELECT count(*) FROM runs")[0][0]
    done = elsewhere.visionline("reproduce", "patterns@champion", "--json", "--output", str(tmp_path / "out"))
    assert done.returncode == 0, done.stdout + done.stderr
    certificate = json.loads(done.stdout)
    assert certificate["verdict"] == "equal"
    assert certificate["rebuilt_hash"] == certificate["model_hash"] == tags_of(clone)["visionline.model"]
    assert {entry["dataset"] for entry in certificate["trained_on"]} == {"shapes-imagenet", "shapes-patterns"}
    assert certificate["same_environment"] is True
    assert json.loads((tmp_path / "out/certificate.json").read_text())["verdict"] == "equal"
    assert "Rebuilt, bit for bit" in browse(tmp_path / "out/certificate.html")
    assert tags_of(clone)["visionline.reproduced"] == "equal"
    # Runs of a reproduction are marked, and nothing is left in the checkout.
    marked = clone.sql("SELECT count(*) FROM tags WHERE key = 'visionline.reproduction'")[0][0]
    assert marked == clone.sql("SELECT count(*) FROM runs")[0][0] - runs == 5  # two validated, two trained, certified
    assert elsewhere.git("worktree", "list").count("\n") == 0
    assert elsewhere.git("status", "--porcelain") == ""
    assert clone.aliases("patterns") == {"challenger": 1, "champion": 1}


def test_an_altered_training_image_is_named(clone: Any, elsewhere: Any, tmp_path: Path) -> None:
    index = next((clone.root / "data/shapes-patterns/index").glob("*.parquet"))
    row = next(row for row in pq.read_table(index).to_pylist() if row["split"] == "train")
    lock = {entry["relpath"]: entry["md5"] for entry in listing(clone, "shapes-patterns")}
    md5 = lock[f"shards/{row['shard']}.tar"]
    stored = tmp_path / "storage/files/md5" / md5[:2] / md5[2:]
    data = bytearray(stored.read_bytes())
    data[row["offset"] + row["size"] // 2] ^= 0xFF
    stored.chmod(0o644)
    stored.write_bytes(data)
    done = elsewhere.visionline("reproduce", "patterns@champion")
    assert done.returncode == 1
    assert f"image {row['source']} (train) has other bytes" in done.stderr
    assert "visionline.reproduced" not in tags_of(clone)


def listing(clone: Any, dataset: str) -> list[dict[str, str]]:
    digest = clone.yaml(f"data/{dataset}.dvc")["outs"][0]["md5"]
    return json.loads((clone.root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]).read_text())


def test_what_can_not_be_found_is_said(clone: Any) -> None:
    unknown = clone.visionline("reproduce", "patterns@staging")
    assert (unknown.returncode, "patterns@staging" in unknown.stderr) == (2, True)
    commit = clone.sql("SELECT t.value FROM tags t JOIN runs r ON r.run_uuid = t.run_uuid "
                       "WHERE r.name = 'finetune@patterns' AND t.key = 'git.commit'")[0][0]  # fmt: skip
    clone.run(sys.executable, "-c", "import pathlib, shutil; shutil.rmtree('.git/refs/visionline')")
    clone.git("reflog", "expire", "--expire=now", "--all")
    clone.git("gc", "--quiet", "--prune=now")
    lost = clone.visionline("reproduce", "patterns")
    assert (lost.returncode, commit in lost.stderr) == (1, True), lost.stderr
