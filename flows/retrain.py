"""The operation `retrain`: what a schedule or new data start; trains the tasks for which it is worth it."""

import time
from collections.abc import Mapping
from typing import Any

from flows import history, labelling
from flows import run as runs
from flows.ingest import PATIENCE_S
from flows.project import UsageError
from stages.params import document

LOOK_EVERY_S = 2.0


def retrain(dataset: str | None = None, revision: str | None = None, task: str | None = None) -> dict[str, Any]:
    """Run the tasks that a dataset (None: any) feeds, unless too few samples are new; what was done, and why not more.

    task: this one alone, whose inputs have drifted: its model is out of date, so that any new sample is enough, and
    without one there is nothing to learn from.

    Without any new sample the run itself finds whether there is work: images were removed, parameters changed, or a
    run died between two stages. revision: the commit that announced the version; a newer one has a retraining of its
    own, so this one leaves the work to it. UsageError and WorkError as of `visionline run`.
    """
    params = _params()
    if dataset is not None and dataset not in params.datasets:
        raise UsageError(f"dataset {dataset} is not in params.yaml; there are: {', '.join(params.datasets)}")
    if dataset is not None and revision is not None:
        newer = _newer(dataset, revision, params.retraining.quiet_s)
        if newer:
            return {"tasks": [], "why": {dataset: f"version {newer[:12]} came after {revision[:12]}: left to it"}}
    if task is not None and task not in params.tasks:
        raise UsageError(f"{task} is no task; there are: {', '.join(params.tasks) or 'none'}")
    new = {name: _num_new(params, name) for name in ([task] if task else downstream(params, dataset))}
    least = params.retraining.min_new
    due = [name for name, number in new.items() if (number != 0 if task else not number or number >= least)]
    why = {name: _words(number) for name, number in new.items()}
    if task is not None and new[task] == 0:
        why[task] = f"no labelled images are new: {_remedy(task)}"
    if not due:
        return {"tasks": [], "why": why}
    result = runs.run(due, {}, PATIENCE_S, params.retraining.retries)
    return {"tasks": due if result["stale"] else [], "why": why, "result": result}


def downstream(params: document.Params, dataset: str | None) -> list[str]:
    """The tasks that are trained on a dataset, themselves or through their backbone; all without one."""
    return [
        name
        for name, task in params.tasks.items()
        if dataset is None or dataset in (task.dataset, params.backbones[task.backbone].trained_on)
    ]


def _params() -> document.Params:
    try:
        return document.load()
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from None


def _newer(dataset: str, revision: str, quiet_s: float) -> str | None:
    """The commit of a later version of the dataset, if one comes before this one is quiet_s old; else None."""
    pointer = f"data/{dataset}.dvc"
    while True:
        newest, _, committed = history.git("log", "-1", "--format=%H %ct", "--", pointer).partition(" ")
        if not newest:
            raise UsageError(f"{pointer} is in no commit here: git fetch, or ingest it")
        if history.git("log", "-1", "--format=%H", revision, "--", pointer) != newest:
            return newest
        left_s = int(committed) + quiet_s - time.time()
        if left_s <= 0:
            return None
        time.sleep(min(left_s, LOOK_EVERY_S))


def _num_new(params: document.Params, task: str) -> int | None:
    """New samples of a task, in its own dataset and its backbone's; None when it has to be trained anyway."""
    from stages.tracking import freshness, records

    known, entry = records.read(), params.tasks[task]
    own = freshness.num_new(known, "finetune", task, entry.dataset)
    pretrained_on = params.backbones[entry.backbone].trained_on
    backbone = freshness.num_new(known, "pretrain", entry.backbone, pretrained_on) if pretrained_on else 0
    return None if own is None or backbone is None else own + backbone


def _words(num_new: int | None) -> str:
    return "never trained, or on data that are lost" if num_new is None else f"{num_new} new samples"


def _remedy(task: str) -> str:
    request = labelling.newest(task)
    return f"label the request at {request}" if request else f"visionline drift {task} --inputs FOLDER asks for some"


def markdown(told: Mapping[str, Any]) -> str:
    """What was done, for Prefect's pages."""
    lines = [f"- {name}: {reason}" for name, reason in told["why"].items()]
    lines.append(f"\ntrained: {', '.join(told['tasks']) or 'nothing'}")
    lines += [f"- {line}" for line in told.get("result", {}).get("promotion", [])]
    return "\n".join(lines)
