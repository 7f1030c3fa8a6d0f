"""The operation `ingest`: new labelled images become a new version of a dataset, committed and announced."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flows import history
from flows.project import LOCAL_STATE, UsageError, WorkError, dvc
from flows.undo import undone_on_failure
from stages.params import document, edit
from stages.tracking.process import child_of_this_process, locked

EVENT = "visionline.dataset.version"
PATIENCE_S = 7 * 24 * 3600.0  # for a training in this checkout, where nobody is there to try again


def ingest(name: str, arguments: list[str], task_kind: str | None = None, wait_s: float = 0.0) -> dict[str, Any]:
    """Add a source to data/NAME (arguments: those of `python -m stages.ingest NAME`); returns what it did.

    wait_s: how long a run in this checkout is waited for. The pointer is committed by itself, and params.yaml gets the
    entries that are missing. WorkError when the source can't be taken; the dataset is then as it was.
    """
    if task_kind is not None and task_kind not in document.task_kinds():
        raise UsageError(f"--task {task_kind}: no such kind; there are: {', '.join(document.task_kinds())}")
    _check_params()
    with locked("run", wait_s=wait_s):
        pointer = Path(f"data/{name}.dvc")
        with undone_on_failure(Path("data") / name, [pointer, document.PARAMS_FILE]):
            report = _stage(name, arguments)
            dvc("add", f"data/{name}")
            added = _add_entries(name, task_kind)
            counts = ", ".join(f"{split} {count}" for split, count in report["splits"].items())
            message = f"ingest {name}: {report['added']} added, {report['relabelled']} relabelled ({counts})"
            committed = history.commit_only([pointer, *([document.PARAMS_FILE] if added else [])], message)
    if committed:
        _announce(name, report)
    return report | {"params_added": added, "committed": committed}


def watch(
    name: str, source: str, arguments: list[str], task_kind: str | None, settle_s: float
) -> Iterator[dict[str, Any]]:
    """Ingest a folder or bucket prefix each time that something whole is new in it; what each ingest did.

    A batch that can't be taken is told on stderr and waits for the next change.
    """
    poll_s = min(2.0, max(0.2, settle_s / 4))
    command = [sys.executable, "-m", "stages.watch", source, "--settle", str(settle_s), "--poll", str(poll_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=child_of_this_process()) as watcher:
        assert watcher.stdout
        print(f"watching {source}; Ctrl-C ends it", file=sys.stderr, flush=True)
        try:
            for _ in watcher.stdout:
                try:
                    yield ingest(name, arguments, task_kind, wait_s=PATIENCE_S)
                except (UsageError, WorkError, RuntimeError) as error:
                    print(f"visionline: {error or 'this batch was not taken'}", file=sys.stderr, flush=True)
        finally:
            watcher.kill()
    if watcher.returncode == 2:
        raise UsageError("")


def _check_params() -> None:
    try:
        document.load()
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from None


def _stage(name: str, arguments: list[str]) -> dict[str, Any]:
    """Run the stage with this terminal; what it rejected stays in .visionline/ingest/NAME.json."""
    report = LOCAL_STATE / "ingest" / f"{name}.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "stages.ingest", name, *arguments, "--report", str(report)]
    code = subprocess.run(command, preexec_fn=child_of_this_process(), check=False).returncode
    if code == 2:
        raise UsageError("")
    if code:
        raise WorkError("")
    return json.loads(report.read_text(encoding="utf8"))


def _add_entries(name: str, task_kind: str | None) -> list[str]:
    """The dataset's entry, and with a kind the task's, where params.yaml lacks them."""
    params = document.load()
    entries: dict[str, Mapping[str, Any]] = {"datasets": {name: {"validation": {"min_samples": 10}}}}
    if task_kind is not None and not any(t.dataset == name and t.kind == task_kind for t in params.tasks.values()):
        taken = {*params.backbones, *params.tasks}
        task = name if name not in taken else f"{name}-{task_kind.replace('_', '-')}"  # a name has no underscore
        entries["tasks"] = {task: _task_entry(name, task_kind, _backbone_for(task_kind, params))}
    return edit.add_entries(entries)


def _backbone_for(kind: str, params: document.Params) -> str:
    """The first backbone that can carry the kind's defaults; UsageError when there is none."""
    section, unfit = document.task_section(_task_entry("any", kind, "any")), []
    for name, backbone in params.backbones.items():
        problem = next(section.misfits(backbone), None)
        if problem is None:
            return name
        unfit.append(f"{name}: {problem}")
    if unfit:
        raise UsageError(f"--task {kind}: no backbone of params.yaml can carry its defaults ({'; '.join(unfit)})")
    raise UsageError("--task needs a backbone in params.yaml to train on: visionline init laptop shows one")


def _task_entry(dataset: str, kind: str, backbone: str) -> dict[str, Any]:
    """Defaults that train a small dataset on a laptop; every key is documented in recipes/laptop.yaml."""
    starter = document.starter(kind)
    training: dict[str, Any] = {
        "steps": 400,
        "batch_size": 8,
        "optimizer": {"name": "adamw", "lr": 0.001, "weight_decay": 0.01},
        "schedule": {"name": "cosine", "warmup_steps": 20},
        "clip_grad_norm": 5.0,
        "ema_decay": 0.99,
        "validate_every": 100,
    }
    training |= starter.get("training", {})
    return {
        "kind": kind,
        "dataset": dataset,
        "backbone": backbone,
        "control": False,
        **starter,
        "training": training,
    }


def _announce(name: str, report: Mapping[str, Any]) -> None:
    """Tell the Prefect server that there is a new version: what schedules and triggers wait for."""
    from flows import services

    counts = {key: report[key] for key in ("added", "relabelled", "splits")}
    payload = {"dataset": name, "revision": history.git("rev-parse", "HEAD"), **counts}
    services.announce(EVENT, f"visionline.dataset.{name}", payload)
