"""Anything may die at any moment of a retraining: started again, the cycle ends as if nothing had happened."""

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.long]

SEED = int(os.environ.get("VISIONLINE_TEST_SEED", "0"))  # of the moments at which something dies


def kill(attended: Any, victim: str) -> int | None:
    """SIGKILL a service or what trains; its pid, None when it is not there (yet)."""
    if victim == "trainer":
        found = attended.clone.processes("stages.finetune")
        for process in found:
            process.kill()
        return found[0].pid if found else None
    pid = attended.pid(victim)
    os.kill(pid, signal.SIGKILL)
    return pid


@pytest.mark.parametrize("attended", [2], indirect=True)
@pytest.mark.parametrize("victim", ["trainer", "worker", "prefect", "mlflow"])
def test_a_retraining_outlives_the_death_of(attended: Any, tmp_path: Path, victim: str) -> None:
    clone, wait_for, rng = attended.clone, attended.wait_for, random.Random(f"{SEED} {victim}")
    attended.ingest(tmp_path / "drop", "train", is_new=True)
    wait_for("it starts", lambda: [r for r in attended.flow_runs("retrain") if r["state_type"] == "RUNNING"])
    delay_s = rng.uniform(0, 30)
    print(f"seed {SEED}: {victim} dies {delay_s:.1f} s into the retraining")
    time.sleep(0 if victim == "trainer" else delay_s)
    pid = wait_for("something to kill", lambda: kill(attended, victim))
    print(f"killed {pid}")
    attended.addresses.update(json.loads(clone.ok("up", "--prefect-port", "0", "--mlflow-port", "0", "--json")))

    def is_over() -> bool:
        runs = attended.flow_runs("retrain") + attended.flow_runs("pipeline")
        return clone.aliases("patterns").get("champion") == 2 and all(
            run["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED", "SCHEDULED") for run in runs
        )

    wait_for("the cycle completes, and no run is left running", is_over, 600)
    assert clone.aliases("patterns") == {"challenger": 2, "champion": 2}
    journal = json.loads(clone.ok("history", "patterns", "--json"))
    assert [entry["version"] for entry in journal] == ["1", "2"]
    assert clone.sql("SELECT count(*) FROM runs WHERE status = 'RUNNING'") == [(0,)]
    clone.ok("run")  # the lock is free, and nothing is left to do
    assert clone.aliases("patterns") == {"challenger": 2, "champion": 2}
