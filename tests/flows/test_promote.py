"""The gate and the journal as a person uses them, and faults that must leave the champion where it is."""

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

pytestmark = pytest.mark.slow

LENIENT = "models.patterns.gate={margin: 1.0, slices: [], max_latency_ratio: null}"


@pytest.fixture(scope="module")
def retrained(ran: Any, prefect_url: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A clone whose task `patterns` has a champion 1 and a challenger 2, which was trained longer."""
    clone = ran.clone.copy(tmp_path_factory.mktemp("retrained") / "project")
    clone.settings["PREFECT_API_URL"] = prefect_url
    clone.ok("run", "--only", "patterns", "--set", "tasks.patterns.training.steps=30")
    assert clone.aliases("patterns") == {"challenger": 2, "champion": 1}
    return clone


@pytest.fixture
def clone(retrained: Any, tmp_path: Path) -> Any:
    """A copy of it, to change at will."""
    return retrained.copy(tmp_path / "project")


def set_values(clone: Any, *assignments: str) -> None:
    """Change params.yaml without a run."""
    script = "import sys; from stages.params import edit; edit.set_values(dict(a.split('=', 1) for a in sys.argv[1:]))"
    done = clone.run(sys.executable, "-c", script, *assignments)
    assert done.returncode == 0, done.stderr


def result_of(printed: str) -> dict[str, Any]:
    """The JSON at the end of what a command prints."""
    return json.loads(printed[printed.index("\n{\n") if "\n{\n" in printed else printed.index("{") :])


def refusal(clone: Any, *options: str, **settings: str) -> str:
    """What `promote` says on stderr when it must refuse; the champion is where it was."""
    done = clone.visionline("promote", "patterns", *options, **settings)
    assert done.returncode == 1, done.stdout + done.stderr
    assert clone.aliases("patterns")["champion"] == 1
    return done.stderr.strip()


def journal(clone: Any) -> list[tuple[str, str]]:
    return [(entry["action"], entry["version"]) for entry in json.loads(clone.ok("history", "patterns", "--json"))]


def artifacts(clone: Any, version: int) -> Path:
    """The files of a version's weights in MLflow's store."""
    source = clone.sql(f"SELECT source FROM model_versions WHERE name = 'patterns' AND version = {version}")[0][0]
    (folder,) = (clone.root / ".visionline/mlartifacts").rglob(source.rpartition("/")[2])
    (file,) = folder.rglob("*.safetensors")
    return file


def test_a_challenger_that_passes_becomes_champion_and_can_be_taken_back(clone: Any) -> None:
    assert journal(clone) == [("first", "1")]
    set_values(clone, LENIENT)
    decision = result_of(clone.ok("promote", "patterns", "--json", "--reason", "looks good"))
    assert clone.aliases("patterns") == {"challenger": 2, "champion": 2}
    rules = {check["rule"]: check for check in decision["checks"]}
    assert set(rules) == {"report", "no test image was trained on", "non_inferior top1", "size"}
    assert decision["test_set"]["num_images"] == rules["non_inferior top1"]["numbers"]["num_images"] == 32
    report = json.loads((clone.root / "reports/evaluate/patterns.json").read_text())
    assert rules["non_inferior top1"]["numbers"]["challenger"] == pytest.approx(report["after"]["top1"])
    entries = json.loads(clone.ok("history", "patterns", "--json"))
    assert [(e["action"], e["version"], e["previous"]) for e in entries] == [
        ("first", "1", None),
        ("promote", "2", "1"),
    ]
    assert entries[1]["decision"]["checks"] == decision["checks"]
    tags = dict(clone.sql("SELECT key, value FROM model_version_tags WHERE name = 'patterns' AND version = 2"))
    assert tags["visionline.promoted"] == "true"
    assert tags["visionline.decision"] == decision["run"]
    already = clone.visionline("promote", "patterns")
    assert (already.returncode, "champion of patterns already" in already.stderr) == (2, True)

    assert "version 1 is the champion of patterns again" in clone.ok("rollback", "patterns", "--reason", "misses gears")
    assert clone.aliases("patterns") == {"challenger": 2, "champion": 1}
    assert journal(clone)[-1] == ("rollback", "1")
    again = clone.visionline("rollback", "patterns")
    assert (again.returncode, "no earlier champion" in again.stderr) == (1, True)
    at = json.loads(clone.ok("history", "patterns", "--at", entries[1]["when"], "--json"))
    assert [entry["version"] for entry in at] == ["2"]
    early = clone.visionline("history", "patterns", "--at", "2020-01-01")
    assert (early.returncode, "had no champion" in early.stderr) == (2, True)


def test_a_rule_that_fails_keeps_the_champion_and_force_is_recorded_as_such(clone: Any) -> None:
    set_values(clone, "models.patterns.gate={margin: 1.0, slices: [], max_latency_ratio: null, max_size_mib: 0.01}")
    told = refusal(clone)
    assert told.splitlines() == [
        line for line in told.splitlines() if line.startswith("visionline: ") or "size" in line
    ]
    assert "patterns version 2 stays challenger: size:" in told
    tags = dict(clone.sql("SELECT key, value FROM model_version_tags WHERE name = 'patterns' AND version = 2"))
    assert tags["visionline.promoted"] == "false"
    assert journal(clone) == [("first", "1")]
    no_reason = clone.visionline("promote", "patterns", "--force")
    assert (no_reason.returncode, "--reason" in no_reason.stderr) == (2, True)
    clone.ok("promote", "patterns", "--force", "--reason", "the disk is large")
    assert clone.aliases("patterns")["champion"] == 2
    assert journal(clone)[-1] == ("force", "2")


def test_approval_waits_for_a_person(clone: Any) -> None:
    set_values(clone, "models.patterns.gate={margin: 1.0, slices: [], max_latency_ratio: null, approval: true}")
    assert "needs a person" in refusal(clone)
    clone.ok("promote", "patterns", "--approve", "Grace", "--reason", "seen the pictures")
    (entry,) = json.loads(clone.ok("history", "patterns", "--json"))[1:]
    assert (entry["who"], entry["decision"]["approved_by"], entry["reason"]) == ("Grace", "Grace", "seen the pictures")


def test_a_class_that_is_lost_blocks(clone: Any) -> None:
    """The champion is made perfect in one class by a bias that says nothing else; the challenger knows it not."""
    for version, bias in ((1, 1000.0), (2, -1000.0)):
        file = artifacts(clone, version)
        weights = load_file(file)
        weights["heads.fc.bias"][0] = bias
        file.unlink()  # other clones share it
        save_file(weights, file)
    set_values(
        clone, "models.patterns.gate={margin: 1.0, slices: [class], slice_images_min: 4, max_latency_ratio: null}"
    )
    told = refusal(clone)
    label = clone.yaml("data/shapes-patterns/dataset.yaml")["classes"][0]["name"]
    assert f"slice class={label}: 1.0000 -> 0.0000" in told


def another_test_set(clone: Any, folder: Path) -> None:
    pictures = sorted((clone.root / ".visionline/shapes/imagefolder/val").rglob("*.jpg"))
    label = pictures[0].parent.name
    (folder / label).mkdir(parents=True)
    shutil.copy(pictures[0], folder / label / "new.jpg")
    clone.ok("ingest", "shapes-patterns", str(folder), "--format", "imagefolder", "--split", "test")


def leaked(clone: Any, _: Path) -> None:
    """The champion's tags say that it was trained on what the test set comes from: the whole of another version."""
    script = (
        "import pyarrow as pa, pyarrow.parquet as pq, pathlib, sys\n"
        "for file in pathlib.Path('data/shapes-patterns/index').glob('*.parquet'):\n"
        "    table = pq.read_table(file)\n    rows = table.to_pylist()\n"
        "    for row in rows:\n        row['split'] = 'train' if row['split'] == 'test' else row['split']\n"
        "    file.unlink()\n    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), file)\n"
    )
    pointer = (clone.root / "data/shapes-patterns.dvc").read_text()
    assert clone.run(sys.executable, "-c", script).returncode == 0
    clone.dvc("add", "--quiet", "data/shapes-patterns")
    digest = clone.yaml("data/shapes-patterns.dvc")["outs"][0]["md5"]
    (clone.root / "data/shapes-patterns.dvc").write_text(pointer)
    clone.dvc("checkout", "--quiet", "--force", "data/shapes-patterns.dvc")
    change_tag(clone, 1, "visionline.trained_on", json.dumps([["shapes-patterns", digest]]))


def change_tag(clone: Any, version: int, key: str, value: str) -> None:
    with sqlite3.connect(clone.root / ".visionline/mlflow.db") as database:
        changed = database.execute(
            "UPDATE model_version_tags SET value = ? WHERE name = 'patterns' AND version = ? AND key = ?",
            (value, version, key),
        )
        assert changed.rowcount == 1


def stale_report(clone: Any, _: Path) -> None:
    change_tag(clone, 2, "top1", "0.9999")


def nan_weights(clone: Any, _: Path) -> None:
    file = artifacts(clone, 2)
    weights = {
        name: value * float("nan") if value.dtype.kind == "f" else value for name, value in load_file(file).items()
    }
    file.unlink()
    save_file(weights, file)


def missing_artifact(clone: Any, _: Path) -> None:
    artifacts(clone, 2).unlink()


def forgotten_training_data(clone: Any, _: Path) -> None:
    change_tag(clone, 2, "visionline.trained_on", json.dumps([["shapes-patterns", "0" * 32 + ".dir"]]))


def identical_weights(clone: Any, _: Path) -> None:
    (same,) = clone.sql(
        "SELECT value FROM model_version_tags WHERE name = 'patterns' AND version = 1 AND key = 'visionline.model'"
    )
    change_tag(clone, 2, "visionline.model", same[0])


FAULTS = {
    another_test_set: "was evaluated on",
    leaked: "no test image was trained on: 32 of 32",
    stale_report: "report: top1",
    nan_weights: "not finite",
    missing_artifact: "patterns version 2 stays challenger",
    forgotten_training_data: "shapes-patterns",
    identical_weights: "identical weights",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_stops_promotion(clone: Any, tmp_path: Path, fault: Any) -> None:
    set_values(clone, LENIENT)
    fault(clone, tmp_path / "fault")
    assert FAULTS[fault] in refusal(clone)
    assert journal(clone) == [("first", "1")]


def test_a_registry_out_of_reach_stops_promotion(clone: Any) -> None:
    told = refusal(clone, MLFLOW_TRACKING_URI="http://127.0.0.1:9", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert "127.0.0.1" in told
    assert len(told.splitlines()) == 1


def test_killed_between_journal_and_alias_is_repaired_by_the_next_command(clone: Any) -> None:
    set_values(clone, LENIENT)
    script = (
        "import os, sys\nfrom mlflow import MlflowClient\n"
        "MlflowClient.set_registered_model_alias = lambda *_: os.kill(os.getpid(), 9)\n"
        "sys.argv = ['visionline', 'promote', 'patterns']\nfrom flows.__main__ import main\nmain()\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", script], cwd=clone.root, env=clone.environment(), capture_output=True, check=False
    )
    assert killed.returncode == -9
    assert clone.aliases("patterns")["champion"] == 1
    assert journal(clone) == [("first", "1"), ("promote", "2")]
    assert clone.aliases("patterns")["champion"] == 2


def test_run_applies_the_gate_where_it_is_automatic(clone: Any) -> None:
    set_values(clone, LENIENT, "models.patterns.promote=auto")
    printed = clone.ok("run", "--only", "patterns", "--set", "tasks.patterns.training.steps=32")
    assert "patterns: version 3 passed the gate and is the champion now" in printed
    assert clone.aliases("patterns") == {"challenger": 3, "champion": 3}
