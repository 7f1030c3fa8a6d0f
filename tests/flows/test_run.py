"""`visionline run` from end to end, on tiny drawn datasets."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def weights(clone: Any, model: str = "patterns") -> bytes:
    return (clone.root / f"models/{model}/weights.safetensors").read_bytes()


def result_of(printed: str) -> dict[str, Any]:
    """The JSON at the end of what `run --json` prints."""
    return json.loads(printed[printed.index("\n{\n") if "\n{\n" in printed else printed.index("{") :])


def test_a_run_ends_with_registered_models_and_their_lineage(ran: Any) -> None:
    clone = ran.clone
    assert "patterns" in ran.printed and "scenes" in ran.printed
    for task in ("patterns", "scenes"):
        assert clone.aliases(task) == {"challenger": 1, "champion": 1}
        report = json.loads((clone.root / f"reports/evaluate/{task}.json").read_text())
        assert {"before", "after"} <= set(report)
        assert ("scratch" in report) == (task == "patterns")
    assert len(clone.commits(ran.before)) == 1
    assert clone.files_of() == ["dvc.lock"]
    lock = clone.yaml("dvc.lock")["stages"]
    tags = clone.sql(
        "SELECT r.name, t.key, t.value FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid WHERE r.status = 'FINISHED'"
    )
    noted = {(name, key): value for name, key, value in tags}
    for stage in ("pretrain@shapes-resnet18", "finetune@patterns", "finetune@scenes", "evaluate@scenes"):
        for kind, entries in (("dvc.dep", lock[stage]["deps"]), ("dvc.out", lock[stage]["outs"])):
            for entry in entries:
                assert noted[stage, f"{kind}.{entry['path']}"] == entry["md5"]
    commit = noted["finetune@patterns", "git.commit"]
    assert clone.git("cat-file", "-t", commit) == "commit"
    assert commit in clone.git("for-each-ref", "--format=%(objectname)", "refs/visionline/runs")
    assert clone.sql("SELECT count(*) FROM runs WHERE status = 'RUNNING'") == [(0,)]


def test_stages_ran_side_by_side(ran: Any) -> None:
    rows = ran.clone.sql("SELECT name, start_time, end_time FROM runs WHERE name LIKE '%@%'")
    times = {name: (start, end) for name, start, end in rows}
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores")
    spans = sorted(times.values())
    assert any(later[0] < earlier[1] for earlier, later in pairwise(spans))


def test_a_second_run_does_nothing(clone: Any) -> None:
    runs = clone.sql("SELECT count(*) FROM runs")
    printed = clone.ok("run")
    assert "Everything is up to date" in printed
    assert clone.sql("SELECT count(*) FROM runs") == runs
    assert clone.aliases("patterns") == {"challenger": 1, "champion": 1}


def test_a_parameter_concerns_its_task_and_changing_it_back_trains_nothing(clone: Any) -> None:
    first = weights(clone)
    ran = result_of(clone.ok("run", "--json", "--set", "tasks.patterns.training.steps=8"))
    assert sorted(ran["ran"]) == ["control@patterns", "evaluate@patterns", "finetune@patterns"]
    assert clone.aliases("patterns") == {"challenger": 2, "champion": 1}
    assert weights(clone) != first
    back = result_of(clone.ok("run", "--json", "--set", "tasks.patterns.training.steps=24"))
    assert back["ran"] == []
    assert clone.aliases("patterns") == {"challenger": 1, "champion": 1}
    assert weights(clone) == first


@pytest.mark.long
def test_a_fresh_clone_with_the_cache_registers_the_same_model(clone: Any, tmp_path: Path) -> None:
    fresh = type(clone)(tmp_path / "fresh", dict(clone.settings))
    clone.git("clone", "--quiet", str(clone.root), str(fresh.root))
    shutil.copytree(clone.root / ".dvc/cache", fresh.root / ".dvc/cache")
    printed = fresh.ok("run")
    assert "0 stages ran" in printed
    assert weights(fresh) == weights(clone)
    assert fresh.aliases("patterns") == {"challenger": 1, "champion": 1}


def wait_for(condition: Any, timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def checkpoints(clone: Any) -> list[Path]:
    return list((clone.root / ".visionline/checkpoints").glob("finetune@patterns-*/state.pt"))


def trainers(clone: Any) -> list[Any]:
    return clone.processes("stages.finetune")


def test_a_killed_trainer_goes_on_and_ends_with_the_same_bits(clone: Any) -> None:
    uninterrupted = weights(clone)
    shutil.rmtree(clone.root / "models/patterns")
    settings = {**clone.environment(), "VISIONLINE_SAVE_EVERY_S": "0"}
    command = [sys.executable, "-m", "stages.finetune", "patterns"]
    trainer = subprocess.Popen(command, cwd=clone.root, env=settings, stdout=subprocess.DEVNULL)
    wait_for(lambda: checkpoints(clone) or trainer.poll() is not None)
    os.kill(trainer.pid, signal.SIGKILL)
    trainer.wait()
    assert checkpoints(clone)
    assert not (clone.root / "models/patterns").exists()
    done = clone.stage("finetune", "patterns")
    assert done.returncode == 0, done.stderr
    assert weights(clone) == uninterrupted
    assert not checkpoints(clone)


LONGER = "tasks.patterns.training.steps=60"
ALONE = "tasks.patterns.control=false"  # less to wait for


@pytest.fixture(scope="module")
def uninterrupted(ran: Any, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What the longer training comes to when nobody disturbs it."""
    clone = ran.clone.copy(tmp_path_factory.mktemp("uninterrupted") / "project")
    script = "import sys; from stages.params import edit; edit.set_values(dict(a.split('=') for a in sys.argv[1:]))"
    assert clone.run(sys.executable, "-c", script, LONGER, ALONE).returncode == 0
    assert clone.stage("finetune", "patterns").returncode == 0
    return weights(clone)


@pytest.mark.long
@pytest.mark.parametrize("victim", ["dvc", "run", "run, politely"])
def test_after_a_kill_nothing_goes_on_and_the_next_run_ends_with_the_same_bits(
    clone: Any, uninterrupted: bytes, victim: str
) -> None:
    run = clone.start("run", "--only", "patterns", "--set", LONGER, "--set", ALONE, VISIONLINE_SAVE_EVERY_S="0")
    try:
        wait_for(lambda: checkpoints(clone) or run.poll() is not None)
        assert run.poll() is None
        if victim.startswith("run"):
            os.kill(run.pid, signal.SIGTERM if "politely" in victim else signal.SIGKILL)
        else:
            for process in clone.processes("dvc", "repro"):
                process.kill()
        wait_for(lambda: not trainers(clone), 20)
        run.wait(timeout=180)
        wait_for(lambda: not clone.processes(), 20)
    finally:
        run.kill()
    assert run.returncode != 0
    clone.ok("run", "--only", "patterns")
    assert weights(clone) == uninterrupted
    assert not checkpoints(clone)
    assert clone.sql("SELECT count(*) FROM runs WHERE status = 'RUNNING'") == [(0,)]


def test_a_loss_that_is_not_finite_stops_at_its_stage(clone: Any) -> None:
    # Decay of lr * weight_decay = 100 turns each weight into -99 of it: float32 ends after 20 steps.
    wild = "tasks.patterns.training.optimizer={name: sgd, lr: 100, weight_decay: 1}"
    done = clone.visionline(
        "run", "--only", "patterns", "--set", wild, "--set", "tasks.patterns.training.ema_decay=null"
    )
    assert done.returncode == 1
    (told,) = [line for line in done.stderr.splitlines() if "finetune@patterns" in line]
    assert "finetune patterns: loss" in told and "lower training.optimizer.lr" in told
    assert clone.aliases("patterns") == {"challenger": 1, "champion": 1}
    assert clone.sql("SELECT count(*) FROM runs WHERE status = 'FAILED' AND name = 'finetune@patterns'") == [(1,)]


def test_a_model_that_can_not_be_served_is_not_registered(clone: Any) -> None:
    file = clone.root / "models/patterns/weights.safetensors"
    broken = file.read_bytes()[:1000]
    file.unlink()
    file.write_bytes(broken)
    done = clone.stage("register", "patterns")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("register patterns: ")
    assert clone.aliases("patterns") == {"challenger": 1, "champion": 1}


def test_wrong_parameters_and_changed_data_are_wrong_use(clone: Any) -> None:
    params = clone.root / "params.yaml"
    text = params.read_text()
    params.write_text(text.replace("image_px: 32", "image_pix: 32", 1))
    done = clone.visionline("run")
    assert (done.returncode, "backbones.shapes-resnet18.image_pix: unknown key" in done.stderr) == (2, True)
    params.write_text(text)
    (clone.root / "data/shapes-patterns/dataset.yaml").unlink()
    (clone.root / "data/shapes-patterns/dataset.yaml").write_text("task: classification\n")
    done = clone.visionline("run")
    assert (done.returncode, "differs from its pointer" in done.stderr) == (2, True)
    assert "Traceback" not in done.stderr
