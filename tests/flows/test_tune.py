"""Parameters are searched as a user does it; whatever is killed, the search ends with exactly as many trials."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

TUNING = """
tuning:
  patterns:
    trials: 3
    ranges:
      training.optimizer.lr: {low: 1e-4, high: 1e-1, log: true}
      training.optimizer.weight_decay: {low: 0.0, high: 0.1}
      augmentation.crop_scale: {choices: [[0.35, 1.0], [0.8, 1.0]]}
    overrides: {training.steps: 8, training.validate_every: 2, training.log_every: 4}
    pruner: {startup_trials: 2, warmup: 0.2}
"""


def tuned(clone: Any, text: str = TUNING) -> Any:
    params = clone.root / "params.yaml"
    params.write_text(params.read_text() + text)
    clone.git("commit", "--quiet", "--all", "--message", "ranges")
    return clone


def children(clone: Any) -> list[tuple[str, int, str]]:
    """Run, trial and status of each trial's run in MLflow."""
    rows = clone.sql(
        "SELECT r.run_uuid, t.value, r.status FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid "
        "AND t.key = 'visionline.trial' ORDER BY r.start_time"
    )
    return [(run, int(number), status) for run, number, status in rows]


def tags(clone: Any, run: str) -> dict[str, str]:
    return dict(clone.sql(f"SELECT key, value FROM tags WHERE run_uuid = '{run}'"))


MISTAKES = {
    ("cells",): "cells is no task; there are: patterns, scenes",
    ("scenes",): "has no ranges for scenes: add tuning.scenes",
    ("patterns", "--trials", "0"): "--trials",
    ("patterns",): "must run first: visionline run --only patterns",
}


def test_mistakes_are_told_in_a_line(with_data: Any, tmp_path: Path) -> None:
    clone = tuned(with_data.copy(tmp_path / "project"))
    for arguments, told in MISTAKES.items():
        done = clone.visionline("tune", *arguments)
        assert (done.returncode, told in done.stderr) == (2, True), done.stdout + done.stderr
    bad = TUNING.replace("high: 1e-1", "high: 1000").replace("weight_decay", "weight_dekay")
    (clone.root / "params.yaml").write_text((clone.root / "params.yaml").read_text().replace(TUNING, bad))
    done = clone.visionline("tune", "patterns")
    assert done.returncode == 2
    assert "tuning.patterns.ranges.training.optimizer.lr: high 1000" in done.stderr
    assert "weight_dekay: unknown key; near: training.optimizer.weight_decay" in done.stderr


def started(clone: Any, process: Any, word: str) -> list[str]:
    """Read lines of a command until one holds a word; what was printed."""
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if word in line:
            return lines
    raise AssertionError(f"{word} never came: {''.join(lines)}")


def end(clone: Any, process: Any, *victim: str) -> None:
    """SIGKILL a process of the search while a trial trains, and wait until none of them is left."""
    deadline = time.monotonic() + 60
    while not any(status == "RUNNING" for _, _, status in children(clone)) and time.monotonic() < deadline:
        time.sleep(0.02)
    for found in clone.processes(*victim):
        found.kill()
    process.wait(60)
    process.stdout.close()
    deadline = time.monotonic() + 60
    while clone.processes("stages.tune") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert clone.processes("stages.tune") == []


@pytest.mark.slow
@pytest.mark.long
def test_killed_in_the_middle_it_goes_on_and_ends_with_exactly_ten(ran: Any, tmp_path: Path) -> None:
    clone = tuned(ran.clone.copy(tmp_path / "project"))
    params = clone.root / "params.yaml"
    bad = "training: {steps: 24, optimizer: {lr: 0.09},"  # the best will be another trial than the first
    params.write_text(params.read_text().replace("training: {steps: 24,", bad))
    clone.git("commit", "--quiet", "--all", "--message", "a rate that is too high")
    before = {name: (clone.root / name).read_bytes() for name in ("params.yaml", "dvc.lock")}
    models = sorted(file.name for file in (clone.root / "models").iterdir())

    process = clone.start("tune", "patterns", "--trials", "10")
    started(clone, process, "trial 3 of 10")
    refused = clone.visionline("tune", "patterns")
    assert (refused.returncode, "tune@patterns is running already" in refused.stderr) == (1, True), refused.stderr
    end(clone, process, "--output")  # the search; its worker goes with it
    process = clone.start("tune", "patterns", "--trials", "10")
    lines = started(clone, process, "trial 6 of 10")
    assert "of 10 trials are done: going on" in lines[0]
    end(clone, process, "tune", "flows")

    result = json.loads(clone.ok("tune", "patterns", "--trials", "10", "--json"))
    assert [trial["number"] for trial in result["trials"]] == list(range(10))
    assert {trial["state"] for trial in result["trials"]} <= {"complete", "pruned", "failed"}
    assert sum(result["counts"].values()) == 10 and result["first"]["number"] == 0
    again = json.loads(clone.ok("tune", "patterns", "--trials", "10", "--json"))
    assert again["trials"] == result["trials"]

    # MLflow: each trial once as it ended, under one parent; what was killed beside it.
    runs = {run: (number, status) for run, number, status in children(clone)}
    states = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
    for trial in result["trials"]:
        assert runs.pop(trial["run"]) == (trial["number"], states[trial["state"]])
        said = tags(clone, trial["run"])
        assert said["mlflow.parentRunId"] == result["run"]
        assert ("visionline.pruned" in said) == (trial["state"] == "pruned")
        metrics = clone.sql(f"SELECT value FROM metrics WHERE key = 'val_top1' AND run_uuid = '{trial['run']}'")
        assert metrics and max(value for (value,) in metrics) == pytest.approx(trial["value"])
    assert 1 <= len(runs) <= 2 and {status for _, status in runs.values()} == {"KILLED"}
    assert clone.sql(f"SELECT status FROM runs WHERE run_uuid = '{result['run']}'") == [("FINISHED",)]
    assert clone.sql("SELECT count(*) FROM runs WHERE status = 'RUNNING'") == [(0,)]
    (artifacts,) = clone.sql(f"SELECT artifact_uri FROM runs WHERE run_uuid = '{result['run']}'")[0]
    kept = {file.suffix for file in Path(artifacts.removeprefix("file://")).iterdir()}
    assert kept == {".png", ".json"}

    # Nothing of the project changed, until it is asked for.
    assert {name: (clone.root / name).read_bytes() for name in before} == before
    assert sorted(file.name for file in (clone.root / "models").iterdir()) == models
    assert not list((clone.root / ".visionline/checkpoints").glob("tune@*"))
    best = result["best"]
    assert best["value"] == max(t["value"] for t in result["trials"] if t["state"] == "complete")
    assert best["number"] > 0 and best["value"] > result["first"]["value"]
    printed = clone.ok("tune", "patterns", "--trials", "10", "--apply")
    assert result["diff"].splitlines()[0] == "--- a/params.yaml" and result["diff"] in printed
    assert clone.files_of() == ["params.yaml"]
    assert f"tune patterns: trial {best['number']} of 10, top1" in clone.git("log", "-1", "--format=%s")
    entry = clone.yaml("params.yaml")["tasks"]["patterns"]
    lr = best["values"]["training.optimizer.lr"]
    assert entry["training"]["optimizer"]["lr"] == lr and entry["training"]["steps"] == 24
    assert "# comments survive" in (clone.root / "params.yaml").read_text()
    assert json.loads(clone.ok("tune", "patterns", "--trials", "10", "--json"))["trials"] == result["trials"]
    assert "holds the best values already" in clone.ok("tune", "patterns", "--trials", "10")


@pytest.mark.slow
@pytest.mark.long
def test_a_trial_is_what_finetune_trains_and_workers_share_the_trials(ran: Any, tmp_path: Path) -> None:
    text = TUNING.replace("    overrides: {training.steps: 8, training.validate_every: 2, training.log_every: 4}\n", "")
    clone = tuned(ran.clone.copy(tmp_path / "project"), text)
    process = clone.start("tune", "patterns", "--trials", "3", "--jobs", "2")
    lines = started(clone, process, "trial 1 of 3")
    (worker,) = clone.processes("--worker", "1")
    worker.kill()  # the search goes on: somebody takes its trial up again
    printed = "".join(lines) + process.stdout.read()
    assert process.wait(60) == 0, printed
    assert "worker 0" in printed and "worker 1" in printed and "3 trials" in printed
    result = json.loads(clone.ok("tune", "patterns", "--trials", "3", "--json"))
    assert sum(result["counts"].values()) == len(result["trials"]) == 3
    trained = json.loads((clone.root / "models/patterns/model.json").read_text())
    assert result["first"]["value"] == trained["best_top1"]


@pytest.mark.slow
@pytest.mark.long
def test_what_the_trials_need_is_asked_for_in_a_line(ran: Any, tmp_path: Path) -> None:
    clone = tuned(ran.clone.copy(tmp_path / "project"))
    params = clone.root / "params.yaml"
    sound = params.read_text()
    params.write_text(sound.replace("image_px: 32\n    training: &short", "image_px: 40\n    training: &short"))
    done = clone.visionline("tune", "patterns")
    assert (done.returncode, "pretrain@shapes-resnet18 must run first" in done.stderr) == (2, True), done.stderr
    params.write_text(sound)
    pictures = clone.root / ".visionline/shapes/imagefolder/train"
    clone.ok("ingest", "one-split", str(pictures), "--format", "imagefolder", "--split", "train")
    whole = params.read_text().replace("    dataset: shapes-patterns", "    dataset: one-split")
    params.write_text(whole)
    clone.dvc("repro", "--single-item", "validate@one-split")
    done = clone.visionline("tune", "patterns")
    assert (done.returncode, "one-split has no val split" in done.stderr) == (1, True), done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
