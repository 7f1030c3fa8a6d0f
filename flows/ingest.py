"""The operation `ingest`: new labelled images become a new version of a dataset, committed and announced."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows import history
from flows.project import LOCAL_STATE, UsageError, WorkError
from stages.params import document, edit
from stages.tracking.process import child_of_this_process, locked

EVENT = "visionline.dataset.version"


def ingest(name: str, arguments: list[str], task_kind: str | None = None) -> dict[str, Any]:
    """Add a source to data/NAME (arguments: those of `python -m stages.ingest NAME`); returns what it did.

    The pointer is committed by itself, and params.yaml gets the entries that are missing. WorkError when the source
    can't be taken; the dataset is then as it was.
    """
    if task_kind is not None and task_kind not in document.task_kinds():
        raise UsageError(f"--task {task_kind}: no such kind; there are: {', '.join(document.task_kinds())}")
    _check_params()
    with locked("run", wait_s=0.0):
        report = _stage(name, arguments)
        _dvc("add", f"data/{name}")
        added = _add_entries(name, task_kind)
        pointer = Path(f"data/{name}.dvc")
        counts = ", ".join(f"{split} {count}" for split, count in report["splits"].items())
        message = f"ingest {name}: {report['added']} added, {report['relabelled']} relabelled ({counts})"
        committed = history.commit_only([pointer, *([document.PARAMS_FILE] if added else [])], message)
    if committed:
        _announce(name, report)
    return report | {"params_added": added, "committed": committed}


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


def _dvc(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise WorkError(f"dvc {' '.join(arguments)}: {' '.join((done.stderr + done.stdout).split())}")


def _add_entries(name: str, task_kind: str | None) -> list[str]:
    """The dataset's entry, and with a kind the task's, where params.yaml lacks them."""
    params = document.load()
    entries: dict[str, Mapping[str, Any]] = {"datasets": {name: {"validation": {"min_samples": 10}}}}
    if task_kind is not None and not any(t.dataset == name and t.kind == task_kind for t in params.tasks.values()):
        if not params.backbones:
            raise UsageError("--task needs a backbone in params.yaml to train on: visionline init laptop shows one")
        taken = {*params.backbones, *params.tasks}
        task = name if name not in taken else f"{name}-{task_kind}"
        entries["tasks"] = {task: _task_entry(name, task_kind, next(iter(params.backbones)))}
    return edit.add_entries(entries)


def _task_entry(dataset: str, kind: str, backbone: str) -> dict[str, Any]:
    """Defaults that train a small dataset on a laptop; every key is documented in recipes/laptop.yaml."""
    training: dict[str, Any] = {
        "steps": 400,
        "batch_size": 32 if kind == "classification" else 8,
        "optimizer": {"name": "adamw", "lr": 0.001, "weight_decay": 0.01},
        "schedule": {"name": "cosine", "warmup_steps": 20},
        "clip_grad_norm": 5.0,
        "ema_decay": 0.99,
        "validate_every": 100,
    }
    entry: dict[str, Any] = {"kind": kind, "dataset": dataset, "backbone": backbone, "control": False}
    if kind == "classification":
        entry |= {"image_px": 128}
    if kind == "detection":
        entry |= {"image_size_px": [256, 320], "faster_rcnn": {"fpn_channels": 128, "rpn_proposals_train": 300}}
    return entry | {"training": training}


def _announce(name: str, report: Mapping[str, Any]) -> None:
    """Tell the Prefect server, if one is given, that there is a new version: what schedules and triggers wait for."""
    if not os.environ.get("PREFECT_API_URL"):
        return
    from prefect.events import emit_event
    from prefect.events.worker import EventsWorker

    revision = history.git("rev-parse", "HEAD")
    payload = {"dataset": name, "revision": revision, **{k: report[k] for k in ("added", "relabelled", "splits")}}
    emit_event(EVENT, resource={"prefect.resource.id": f"visionline.dataset.{name}"}, payload=payload)
    EventsWorker.instance().drain()
