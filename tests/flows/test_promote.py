"""The gate and the journal as a person uses them, and faults that must leave the champion where it is."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

LENIENT = "models.patterns.gate={margin: 1.0, slices: [], max_latency_ratio: null, approval: %s}"


@pytest.fixture(scope="module")
def retrained(ran: Any, prefect_url: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A clone whose task `patterns` has a champion 1 and a challenger 2, which was trained longer."""
    clone = ran.clone.copy(tmp_path_factory.mktemp("retrained") / "project")
    clone.settings["PREFECT_API_URL"] = prefect_url
    clone.ok(
        "run",
        "--only",
        "patterns",
        "--set",
        "tasks.patterns.training.steps=30",
        "--set",
        "tasks.patterns.control=false",
    )
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


def refusal(clone: Any, *options: str, **settings: str) -> str:
    """What `promote` says on stderr when it must refuse; the champion is where it was."""
    done = clone.visionline("promote", "patterns", *options, **settings)
    assert done.returncode == 1, done.stdout + done.stderr
    assert clone.aliases("patterns")["champion"] == 1
    return done.stderr.strip()


def journal(clone: Any) -> list[tuple[str, str]]:
    return [(entry["action"], entry["version"]) for entry in json.loads(clone.ok("history", "patterns", "--json"))]


def artifact(clone: Any, version: int) -> Path:
    """The weights of a version in MLflow's store."""
    source = clone.sql(f"SELECT source FROM model_versions WHERE name = 'patterns' AND version = {version}")[0][0]
    (folder,) = (clone.root / ".visionline/mlartifacts").rglob(source.rpartition("/")[2])
    (file,) = folder.rglob("*.safetensors")
    return file


def test_a_challenger_that_passes_becomes_champion_and_can_be_taken_back(clone: Any) -> None:
    assert journal(clone) == [("first", "1")]
    set_values(clone, LENIENT % "true")
    done = clone.visionline("promote", "patterns", "--json", "--approve", "Grace", "--reason", "seen the pictures")
    assert done.returncode == 0, done.stderr
    decision = json.loads(done.stdout)
    assert clone.aliases("patterns") == {"challenger": 2, "champion": 2}
    rules = {check["rule"]: check for check in decision["checks"]}
    assert set(rules) == {"report", "no test image was trained on", "non_inferior top1", "size"}
    assert decision["test_set"]["num_images"] == rules["non_inferior top1"]["numbers"]["num_images"] == 32
    report = json.loads((clone.root / "reports/evaluate/patterns.json").read_text())
    assert rules["non_inferior top1"]["numbers"]["challenger"] == pytest.approx(report["after"]["top1"])
    first, second = json.loads(clone.ok("history", "patterns", "--json"))
    assert (first["action"], second["action"], second["version"], second["previous"]) == ("first", "promote", "2", "1")
    assert (second["who"], second["reason"]) == ("Grace", "seen the pictures")
    assert second["decision"]["checks"] == decision["checks"]
    tags = dict(clone.sql("SELECT key, value FROM model_version_tags WHERE name = 'patterns' AND version = 2"))
    assert (tags["visionline.promoted"], tags["visionline.decision"]) == ("true", decision["run"])
    unknown = clone.visionline("promote", "patterns", "--version", "9")
    assert (unknown.returncode, "patterns/9" in unknown.stderr) == (2, True)
    already = clone.visionline("promote", "patterns")
    assert (already.returncode, "champion of patterns already" in already.stderr) == (2, True)

    assert "version 1 is the champion of patterns again" in clone.ok("rollback", "patterns", "--reason", "misses gears")
    assert clone.aliases("patterns") == {"challenger": 2, "champion": 1}
    again = clone.visionline("rollback", "patterns")
    assert (again.returncode, "no earlier champion" in again.stderr) == (1, True)
    (at,) = json.loads(clone.ok("history", "patterns", "--at", second["when"], "--json"))
    assert at["version"] == "2"
    early = clone.visionline("history", "patterns", "--at", "2020-01-01")
    assert (early.returncode, "had no champion" in early.stderr) == (2, True)


@pytest.mark.long
def test_without_approval_nothing_moves_and_force_is_recorded_as_such(clone: Any) -> None:
    set_values(clone, LENIENT % "true")
    assert "patterns version 2 stays challenger: needs a person" in refusal(clone)
    tags = dict(clone.sql("SELECT key, value FROM model_version_tags WHERE name = 'patterns' AND version = 2"))
    assert tags["visionline.promoted"] == "false"
    assert journal(clone) == [("first", "1")]
    no_reason = clone.visionline("promote", "patterns", "--force")
    assert (no_reason.returncode, "--reason" in no_reason.stderr) == (2, True)
    clone.ok("promote", "patterns", "--force", "--reason", "the disk is large")
    assert clone.aliases("patterns")["champion"] == 2
    assert journal(clone)[-1] == ("force", "2")


@pytest.mark.long
def test_a_version_whose_files_are_gone_stays_challenger(clone: Any) -> None:
    artifact(clone, 2).unlink()
    told = refusal(clone)
    assert told.startswith("visionline: patterns version 2 stays challenger: ")
    assert len(told.splitlines()) == 1


def test_a_registry_out_of_reach_stops_promotion(clone: Any) -> None:
    told = refusal(clone, MLFLOW_TRACKING_URI="http://127.0.0.1:9", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert "127.0.0.1" in told
    assert len(told.splitlines()) == 1


@pytest.mark.long
def test_killed_between_journal_and_alias_is_repaired_by_the_next_command(clone: Any) -> None:
    set_values(clone, LENIENT % "false")
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


@pytest.mark.long
def test_run_applies_the_gate_where_it_is_automatic(clone: Any) -> None:
    # The challenger waits since a run that came before the parameter, or was killed: nothing is stale, the gate is due.
    set_values(clone, LENIENT % "false", "models.patterns.promote=auto")
    printed = clone.ok("run", "--only", "patterns")
    assert "patterns: version 2 passed the gate and is the champion now" in printed
    assert clone.aliases("patterns") == {"challenger": 2, "champion": 2}
    assert "the gate" not in clone.ok("run", "--only", "patterns")


@pytest.mark.long
def test_an_automatic_gate_judges_a_refused_challenger_once(clone: Any) -> None:
    set_values(clone, (LENIENT % "false").replace("}", ", max_size_mib: 0.01}"), "models.patterns.promote=auto")
    assert "patterns version 2 stays challenger: size: " in clone.ok("run", "--only", "patterns")
    assert "stays challenger" not in clone.ok("run", "--only", "patterns")
    assert clone.aliases("patterns") == {"challenger": 2, "champion": 1}
