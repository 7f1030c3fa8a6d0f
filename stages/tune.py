"""Operation `tune`: look for better parameters of a task, as tuning.TASK of params.yaml says.

`python -m stages.tune TASK --output result.json [--trials N] [--jobs K]`. The trials run in worker processes; this one
hands over what they found, and starts another worker where one is killed.
"""

import argparse
import json
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from stages.params import document
from stages.tracking.process import (
    LOCAL_STATE,
    child_of_this_process,
    collect_garbage_rarely,
    die_with_parent,
    errors_in_lines,
    limit_threads,
    locked,
)  # fmt: skip

if TYPE_CHECKING:
    from stages.tracking.runs import StageRun
    from stages.tuning.plan import Plan
    from stages.tuning.study import Ended, Study

LOCK_WAIT_S = 2.0
LOGS = LOCAL_STATE / "logs"


def tune(key: str, trials: int | None, jobs: int) -> dict[str, Any]:
    """Bring a study to so many trials, and say what they came to; goes on with what an earlier call left.

    ValueError when the dataset has no val split or params.yaml no ranges; RuntimeError when a worker failed.
    """
    from stages.data.dataset import Dataset
    from stages.tracking import trials as tracked
    from stages.tuning.plan import Plan

    plan, began = Plan.read(key), time.monotonic()
    dataset = Dataset(Path("data") / plan.params().dataset)
    if "val" not in dataset.splits:
        raise ValueError(
            f"dataset {dataset.name} has no val split, by which trials are judged: "
            "visionline ingest with --split train=0.8,val=0.1,test=0.1 gives it one"
        )
    study, most = _opened(plan), trials or plan.tuning.trials
    facts = {"seed": plan.seed, "cpu_threads": plan.cpu_threads, "tuning": plan.tuning.model_dump(mode="json")}
    with tracked.study_run(key, study.name, facts) as run:
        _say_where_it_stands(plan, study, most)
        try:
            _supervise(plan, study, run.run_id, most, jobs)
        finally:
            _close_runs(study)
        result = {
            "task": key,
            "metric": study.metric,
            "study": str(plan.file),
            "run": run.run_id,
            **_result(plan, study),
        }
        result["seconds"] = round(time.monotonic() - began, 1)
        _keep(run, plan, result)
    return result


def _opened(plan: "Plan") -> "Study":
    from stages.tuning.study import Study

    return Study(plan.file, plan.tuning, plan.is_whole(), plan.seed)


def _say_where_it_stands(plan: "Plan", study: "Study", most: int) -> None:
    done = study.num_over(most)
    if done:
        print(f"{done} of {most} trials are done: going on with {plan.file}", flush=True)
    elif study.encoded(plan.present()) is None:
        print("the values in params.yaml lie outside of the ranges: there is no trial of them to compare with")
    training = plan.params().training
    if training.validate_every is None and plan.tuning.pruner.name != "none":
        print("training.validate_every is null: a trial has one validation, at its end, and none is pruned", flush=True)


def _supervise(plan: "Plan", study: "Study", parent: str, most: int, jobs: int) -> None:
    """Let workers train until the first trials have ended."""
    while (done := study.num_over(most)) < most:
        codes = _work(plan, parent, most, min(jobs, most - done))
        is_stuck = study.num_over(most) == done
        for pid, code in codes.items():
            if code < 0:
                _note_death(study, pid, code, is_stuck)
        _close_runs(study)
        if is_stuck and not any(codes.values()):
            time.sleep(1)  # the rest is in the hands of workers that were not started here


def _note_death(study: "Study", pid: int, code: int, is_stuck: bool) -> None:
    try:
        told = study.note_death(pid)
    except LookupError:
        if is_stuck:
            raise RuntimeError(f"signal {-code} ended a worker before it began a trial") from None
        return
    if told:
        print(told, flush=True)


def _work(plan: "Plan", parent: str, most: int, jobs: int) -> dict[int, int]:
    """Workers side by side until they end: pid -> exit code. RuntimeError with the reason of one that failed."""
    log = LOGS / f"tune-{plan.key}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "stages.tune", plan.key, "--trials", str(most), "--parent", parent]
    command += ["--study", str(plan.file)]
    with log.open("wb") as errors:
        workers = [
            subprocess.Popen(
                [*command, "--worker", str(number)], stdin=subprocess.DEVNULL, stderr=errors, text=True,
                stdout=subprocess.PIPE if jobs > 1 else None, preexec_fn=child_of_this_process(),
            )
            for number in range(jobs)
        ]  # fmt: skip
        readers = [threading.Thread(target=_pass_on, args=(w.stdout, f"worker {n}")) for n, w in enumerate(workers)]
        try:
            for reader in readers:
                reader.start()
            codes = _ended(workers)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
    for reader in readers:
        reader.join()
    if any(code > 0 for code in codes.values()):
        raise RuntimeError(_reason(log, f"tune {plan.key}: "))
    return codes


def _ended(workers: "list[subprocess.Popen[str]]") -> dict[int, int]:
    """Wait for all, or for the first that fails."""
    while True:
        codes = [worker.poll() for worker in workers]
        if all(code is not None for code in codes) or any(code for code in codes if code and code > 0):
            return {worker.pid: code for worker, code in zip(workers, codes, strict=True) if code is not None}
        time.sleep(0.1)


def _pass_on(lines: IO[str] | None, name: str) -> None:
    for line in lines or ():
        print(f"{name:<12} {line}", end="", flush=True)


def _reason(log: Path, who: str) -> str:
    """The last line of what workers said of their errors; all of it where it is a bug's."""
    said = log.read_text(encoding="utf8", errors="replace").strip()
    if "Traceback" in said:
        print(said, file=sys.stderr, flush=True)
    return (said.splitlines() or ["a worker failed and gave no reason"])[-1].removeprefix(who)


def _close_runs(study: "Study") -> None:
    from stages.tracking import runs, trials

    trials.settle({ended.run: (ended.state, ended.reason) for ended in study.ended()})
    runs.close_dead_runs()


def _result(plan: "Plan", study: "Study") -> dict[str, Any]:
    """What the trials came to; `assignments` are the keys of params.yaml that the best would change."""
    ended = study.ended()
    complete = [trial for trial in ended if trial.state == "complete"]
    best = max(complete, key=_value, default=None)
    first = next((trial for trial in complete if trial.is_first), None)
    present = plan.present()
    changes = {path: value for path, value in (best.values if best else {}).items() if value != present[path]}
    return {
        "trials": [asdict(trial) for trial in ended],
        "counts": {state: sum(t.state == state for t in ended) for state in ("complete", "pruned", "failed")},
        "best": asdict(best) if best else None,
        "first": asdict(first) if first else None,
        "importances": study.importances(),
        "assignments": {f"tasks.{plan.key}.{path}": json.dumps(value) for path, value in changes.items()},
        "overrides": dict(plan.tuning.overrides),
    }


def _value(trial: "Ended") -> float:
    assert trial.value is not None
    return trial.value


def _keep(run: "StageRun", plan: "Plan", result: dict[str, Any]) -> None:
    """Give the study's run in MLflow its numbers, the table and the picture."""
    from stages.params.files import write_atomically
    from stages.pictures import tuning

    logarithmic = {path for path, span in plan.tuning.ranges.items() if span.log}
    picture = plan.file.with_suffix(".png")
    write_atomically(picture, tuning.study(result["trials"], result["metric"], logarithmic))
    table = plan.file.with_suffix(".json")
    write_atomically(table, (json.dumps(result, indent=1) + "\n").encode())
    result["picture"] = str(picture)
    numbers = {f"num_{state}": count for state, count in result["counts"].items()}
    best = {f"best_{result['metric']}": result["best"]["value"]} if result["best"] else {}
    run.log_metrics({**numbers, **best})
    for file in (picture, table):
        run.log_artifact(file)


def work(key: str, worker: int, most: int, file: Path, parent: str) -> None:
    """Train trials in this process."""
    import torch

    from stages.tuning import study as studies
    from stages.tuning import trial as trials
    from stages.tuning.plan import Plan

    if torch.cuda.is_available():
        torch.cuda.set_device(worker % torch.cuda.device_count())
    plan = Plan.read(key)
    trials.check(plan, file)
    study = _opened(plan)
    studies.work(study, most, partial(trials.attempt, plan, study, parent, most), plan.present())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stages.tune", description=__doc__)
    parser.add_argument("task", help="a task of params.yaml with an entry in tuning")
    parser.add_argument("--trials", type=int, help="in all; without it: as tuning.TASK.trials says")
    parser.add_argument("--jobs", type=int, default=1, help="trials side by side")
    parser.add_argument("--output", type=Path, help="file for the result, as JSON")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--study", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--parent", help=argparse.SUPPRESS)
    return parser


def main() -> int:
    """Exit code 0 when all trials have ended; 1, with one line, when the work failed; 130 when interrupted."""
    options = _parser().parse_args()
    die_with_parent()
    collect_garbage_rarely()
    with errors_in_lines(f"tune {options.task}"):
        limit_threads(document.cpu_threads())
        if options.worker is not None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one ends it
            work(options.task, options.worker, options.trials, options.study, options.parent)
            return 0
        with suppress(KeyboardInterrupt), locked(f"tune@{options.task}", wait_s=LOCK_WAIT_S):
            result = tune(options.task, options.trials, options.jobs)
            if options.output:
                options.output.write_text(json.dumps(result), encoding="utf8")
            return 0
    return 130


if __name__ == "__main__":
    sys.exit(main())
