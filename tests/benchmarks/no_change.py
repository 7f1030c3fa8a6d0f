"""What a scheduled retraining costs that finds nothing to do: `python tests/benchmarks/no_change.py`.

A tiny project that is up to date, with `visionline up` and `visionline deploy`; its deployment is started as by cron.
Counted are the CPU seconds of the worker and of all that it starts and waits for: everything but the servers.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

sys.path += [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "flows")]

import conftest as project  # the project that the tests of the flows work in

LIMIT_S = 8.0
COUNTED = ("runs", "model_versions", "registered_model_aliases", "experiments", "tags", "model_version_tags")


def cpu_s(process: psutil.Process) -> float:
    """Of a process and of its descendants that have ended."""
    return sum(process.cpu_times()[:4])


def registered(clone: Any) -> dict[str, int]:
    """How much MLflow knows, table by table."""
    return {table: clone.sql(f"SELECT count(*) FROM {table}")[0][0] for table in COUNTED}


def idle_cycle(attended: Any, number: int) -> tuple[float, float, str]:
    """CPU and wall seconds of one run of the deployment `retrain` without parameters, and what it says."""
    worker = psutil.Process(attended.pid("worker"))
    attended.wait_for("the worker is idle", lambda: not worker.children())
    deployment = attended.ask("deployments/name/retrain/visionline")["id"]
    before, began = cpu_s(worker), time.monotonic()
    attended.ask(f"deployments/{deployment}/create_flow_run", {})
    run = attended.wait_for("the run ends", lambda: attended.ended("retrain", number))
    attended.wait_for("its process is gone", lambda: not worker.children())
    return cpu_s(worker) - before, time.monotonic() - began, f"{run['state_type']}: {run['state']['message']}"


def built(root: Path) -> Any:
    """The tiny project after `visionline run`, which takes minutes."""
    project._build_bare(root)
    clone = project.Clone(root)
    for command in ("generate", "run"):
        clone.ok(command)
    return clone


def main() -> int:
    """Exit code 1 when a cycle costs over the limit, registers something or does not end well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="cycles after the first, which is cold [3]")
    parser.add_argument("--project", type=Path, help="such a project that has run, to copy; else one is built")
    options = parser.parse_args()
    is_kept = True
    with tempfile.TemporaryDirectory() as folder:
        clone = project.Clone(options.project) if options.project else built(Path(folder) / "built")
        with project.attend(clone.copy(Path(folder) / "project"), 0) as attended:
            attended.clone.ok("run")  # what `attend` changed in params.yaml
            before = registered(attended.clone)
            for number in range(options.repeats + 1):
                spent_s, took_s, told = idle_cycle(attended, number)
                is_kept &= spent_s < LIMIT_S and told.startswith("COMPLETED: nothing was due")
                print(f"{'cold' if number == 0 else 'warm'}  {spent_s:5.1f} s CPU (limit {LIMIT_S:g})  "
                      f"{took_s:5.1f} s wall  {told}", flush=True)  # fmt: skip
            after = registered(attended.clone)
    print(f"MLflow knows what it knew: {after == before}" + ("" if after == before else f", {before} became {after}"))
    return 0 if is_kept and after == before else 1


if __name__ == "__main__":
    sys.exit(main())
