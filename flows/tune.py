"""The operation `tune`: look for better parameters of a task, and hand back the best as a change of params.yaml."""

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from flows import graph as graphs
from flows import history
from flows.project import UsageError, WorkError
from stages.params import document, edit
from stages.tracking.process import child_of_this_process, locked

NUM_SHOWN = 10
INTERRUPTED, END_S = 130, 20
EXAMPLE = "{ranges: {training.optimizer.lr: {low: 1e-5, high: 1e-2, log: true}}}"


def tune(name: str, trials: int | None, jobs: int, is_applied: bool) -> dict[str, Any]:
    """Run trials of a task until there are so many, and say what they came to.

    The result has the trials, the best and, as `diff`, what that would change in params.yaml; is_applied: it is changed
    and committed. UsageError when there is nothing to tune or to tune on; WorkError when a trial can't be trained.
    """
    _check(name)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.json"
        command = [sys.executable, "-m", "stages.tune", name, "--jobs", str(jobs), "--output", str(file)]
        _run(name, [*command, *(["--trials", str(trials)] if trials else [])])
        result = json.loads(file.read_text(encoding="utf8"))
    result |= {"diff": edit.difference(result["assignments"]), "applied": False}
    if is_applied and result["diff"]:
        with locked("run"):
            edit.set_values(result["assignments"])
            best = result["best"]
            told = f"tune {name}: trial {best['number']} of {len(result['trials'])}, {result['metric']}"
            history.commit_only([document.PARAMS_FILE], f"{told} {best['value']:.4f} on the val split")
        result["applied"] = True
    return result


def _check(name: str) -> None:
    """UsageError unless a task has ranges, and all that it is trained on is here and up to date."""
    try:
        params = document.load()
        if name not in params.tasks:
            raise UsageError(f"{name} is no task; there are: {', '.join(params.tasks) or 'none'}")
        if name not in params.tuning:
            raise UsageError(f"{document.PARAMS_FILE} has no ranges for {name}: add tuning.{name}, such as {EXAMPLE}")
        graph = graphs.read()
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from None
    dataset = f"data/{params.tasks[name].dataset}"
    if any(pointer.path == dataset and pointer.problem for pointer in graph.pointers):
        raise UsageError(f"{dataset} differs from its pointer {dataset}.dvc, or is not here: visionline run says more")
    stale = set(graph.stale()).intersection(graph.stages[f"finetune@{name}"].needs)
    if stale:
        raise UsageError(f"{', '.join(sorted(stale))} must run first: visionline run --only {name}")


def _run(name: str, command: list[str]) -> None:
    """The search in a process of its own, with its lines on this terminal; WorkError with its reason when it fails."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=child_of_this_process()
    )
    try:
        _, said = process.communicate()
    except KeyboardInterrupt:  # it got the signal, too, and closes what it has open
        timer = threading.Timer(END_S, process.kill)
        timer.start()
        process.wait()
        timer.cancel()
        raise WorkError(f"interrupted: visionline tune {name} goes on from here") from None
    if process.returncode < 0 or process.returncode == INTERRUPTED:
        raise WorkError(f"a signal ended the search: visionline tune {name} goes on from there")
    if process.returncode:
        if "Traceback" in said:
            print(said, file=sys.stderr)
        raise WorkError((said.strip().splitlines() or [f"stages.tune ended with {process.returncode}"])[-1])


def show(result: Mapping[str, Any], console: Console) -> None:
    """Print the best trials, what matters, and the change of params.yaml."""
    best, metric, counts = result["best"], result["metric"], result["counts"]
    console.print(_table(result))
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    console.print(f"{len(result['trials'])} trials ({told}); test split untouched", highlight=False)
    if result["importances"]:
        shares = "  ".join(f"{path} {share:.0%}" for path, share in result["importances"].items())
        console.print(f"what sets the best apart: {shares}", highlight=False)
    if best and result["first"]:
        rise = best["value"] - result["first"]["value"]
        console.print(f"{metric} {best['value']:.4f}, {rise:+.4f} against trial 0, params.yaml as it was")
    console.print(f"picture: {result['picture']}, and in MLflow with every trial", highlight=False)
    if best and not result["diff"]:
        console.print("params.yaml holds the best values already")
    if result["diff"]:
        console.print(f"\n{result['diff']}", highlight=False, markup=False, soft_wrap=True)
        same = f"visionline tune {result['task']} --trials {len(result['trials'])} --apply"
        told = "params.yaml is changed and committed" if result["applied"] else f"to write and commit it: {same}"
        console.print(f"{told}; then visionline run --only {result['task']}", highlight=False, soft_wrap=True)


def _table(result: Mapping[str, Any]) -> Table:
    """The best trials; a pruned one has the best of its validations."""
    trials = [trial for trial in result["trials"] if trial["value"] is not None]
    order = {"complete": 0, "pruned": 1, "failed": 2}
    trials.sort(key=lambda trial: (order[trial["state"]], -trial["value"], trial["number"]))
    keys = [*trials[0]["values"]] if trials else []
    columns = ("trial", result["metric"], "state", *(key.rpartition(".")[2] for key in keys))
    table = Table(*columns, title="Best trials, on the val split", title_justify="left")
    for trial in trials[:NUM_SHOWN]:
        cells = [str(value) for value in trial["values"].values()]
        table.add_row(str(trial["number"]), f"{trial['value']:.4f}", trial["state"], *cells)
    return table
