"""Planted faults: each stops at the stage that should catch it, and the champion stays."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

pytestmark = [pytest.mark.slow, pytest.mark.long]


def change_classes(clone: Any, dataset: str, add: str | None = None, remove: str | None = None) -> None:
    file = clone.root / f"data/{dataset}/dataset.yaml"
    content = YAML(typ="safe").load(file)
    content["classes"] = [entry for entry in content["classes"] if entry["name"] != remove]
    content["classes"] += [{"name": add, "title": add}] if add else []
    file.unlink()  # it may be a link into the cache
    YAML().dump(content, file)


def push_a_box_out(clone: Any, dataset: str) -> None:
    file = next((clone.root / f"data/{dataset}/index").iterdir())
    table = pq.read_table(file)
    rows = table.to_pylist()
    row = next(row for row in rows if row["objects"])
    row["objects"][0]["bbox_xyxy"][2] = row["width"] + 7.5
    file.unlink()
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), file)


def leak(clone: Any, folder: Path) -> None:
    """Pictures of the train split come again, as test pictures."""
    train = clone.root / ".visionline/shapes/imagefolder/train"
    label = sorted(train.iterdir())[0]
    shutil.copytree(label, folder / label.name)
    clone.ok("ingest", "shapes-patterns", str(folder), "--format", "imagefolder", "--split", "test")


def test_faulty_data_stop_before_any_training(clone: Any, tmp_path: Path) -> None:
    first = clone.yaml("data/shapes-patterns/dataset.yaml")["classes"][0]["name"]
    leak(clone, tmp_path / "again")
    change_classes(clone, "shapes-patterns", remove=first)
    change_classes(clone, "shapes-imagenet", add="n99999999")
    push_a_box_out(clone, "shapes-scenes")
    names = ("shapes-imagenet", "shapes-patterns", "shapes-scenes")
    clone.dvc("add", "--quiet", *(f"data/{name}" for name in names))
    clone.git("commit", "--quiet", "--all", "--message", "faulty data")
    runs = clone.sql("SELECT count(*) FROM runs WHERE name LIKE 'pretrain@%' OR name LIKE 'finetune@%'")

    done = clone.visionline("run")
    assert done.returncode == 1
    for name in names:
        assert f"stage validate@{name} failed: " in done.stderr
    told = [line for line in done.stdout.splitlines() if line.partition(" validate ")[2]]
    for stage, words in {
        "validate@shapes-imagenet": "n99999999",
        "validate@shapes-patterns": first,
        "validate@shapes-scenes": "box",
    }.items():
        assert [line for line in told if line.startswith(stage) and words in line], done.stdout
    assert [line for line in told if "train image" in line or "train, too" in line], done.stdout
    assert clone.sql("SELECT count(*) FROM runs WHERE name LIKE 'pretrain@%' OR name LIKE 'finetune@%'") == runs
    assert clone.aliases("patterns") == {"challenger": 1, "champion": 1}

    clone.git("checkout", "--quiet", "HEAD~2", "--", *(f"data/{name}.dvc" for name in names))
    clone.dvc("checkout", "--quiet", "--force")
    printed = clone.ok("run")
    assert "0 stages ran" in printed or "Everything is up to date" in printed
    assert clone.aliases("patterns") == {"challenger": 1, "champion": 1}
