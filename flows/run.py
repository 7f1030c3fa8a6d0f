"""The operation `run`: the pipeline on the data as it is; does only what changed."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from flows import champion, history
from flows import graph as graphs
from flows.project import UsageError
from stages.params import document, edit
from stages.params.files import sha256_of
from stages.tracking import cost, records, registry, settled
from stages.tracking.process import locked, only_told

REPORTS = Path("reports/evaluate")


def run(only: Sequence[str], assignments: Mapping[str, str], wait_s: float = 0.0, kills: int = 0) -> dict[str, Any]:
    """Bring the models of all tasks, or of some, up to date; returns what the result table shows.

    wait_s: how long another run or ingest in this checkout is waited for; kills: how often a stage that a signal ended
    is started again.

    UsageError when parameters or data do not fit, WorkError when a stage does; finished stages stay usable.
    """
    began = time.monotonic()
    with locked("run", wait_s=wait_s):
        params = _parameters(assignments)
        unknown = [name for name in only if name not in params.tasks]
        if unknown:
            raise UsageError(f"--only {unknown[0]}: no such task; there are: {', '.join(params.tasks) or 'none'}")
        _check_data(params, only)
        graphs.mend_lock()
        graphs.restore_missing()
        graphs.complete_cache()
        graph = graphs.read()
        _refuse_changed_data(graph)
        graph = graph.only(only) if only else graph
        names = [name for name in params.tasks if not only or name in only]
        stale, outcomes, promoted = graph.stale(), [], []
        known = None if stale else _settled(params, names)
        if known is None:
            stale += _unregistered(graph, stale)
            outcomes = _work(graph, stale, params.cpu_threads, kills) if stale else []
            promoted = champion.promote_where_automatic(names)
            records.keep()
    told = known or records.kept()
    ran = [outcome.stage for outcome in outcomes if outcome.state == "ran" and not outcome.stage.startswith("register")]
    return {
        "tasks": [_row(name, known.aliases(name) if known else registry.aliases(name), told) for name in names],
        "ran": ran,
        "stale": stale,
        "promotion": promoted,
        "seconds": round(time.monotonic() - began, 1),
    }


def _parameters(assignments: Mapping[str, str]) -> document.Params:
    try:
        if assignments:
            edit.set_values(assignments)
            shown = ", ".join(f"{key}={value}" for key, value in assignments.items())
            history.commit_only([document.PARAMS_FILE], f"params: {shown}")
        params = document.load()
        return params if not (pins := _pins(params)) else _parameters(pins)
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from None


def _pins(params: document.Params) -> dict[str, str]:
    """Hashes of the files of weights that have none yet: the files themselves are in no commit."""
    try:
        return {
            f"backbones.{name}.weights_sha256": sha256_of(Path(backbone.weights))
            for name, backbone in params.backbones.items()
            if backbone.weights and backbone.weights_sha256 is None and Path(backbone.weights).is_file()
        }
    except OSError as error:
        raise UsageError(f"weights {error.filename} can't be read: {error.strerror}") from None


def _check_data(params: document.Params, only: Sequence[str]) -> None:
    """UsageError unless there are data for all that runs; with `only`, other tasks' data may come later."""
    tasks = [task for name, task in params.tasks.items() if not only or name in only]
    named = {task.backbone for task in tasks}
    backbones = [backbone for name, backbone in params.backbones.items() if not only or name in named]
    used = {task.dataset for task in tasks} | {backbone.dataset for backbone in backbones}
    for name in params.datasets:
        if name in used and not Path("data", f"{name}.dvc").is_file():
            raise UsageError(f"dataset {name} has no data yet: visionline ingest {name} SOURCE --format FORMAT")


def _refuse_changed_data(graph: graphs.Graph) -> None:
    for pointer in graph.pointers:
        if pointer.problem == "deleted":
            raise UsageError(f"{pointer.path} is not here and not in the cache: dvc pull {pointer.path}")
        if pointer.problem:
            raise UsageError(
                f"{pointer.path} differs from its pointer {pointer.path}.dvc: add data with visionline ingest, "
                f"or go back with dvc checkout {pointer.path}"
            )


def _settled(params: document.Params, names: Sequence[str]) -> records.Records | None:
    """What MLflow knows, if it can be told without it that there is nothing to do: to import it takes seconds."""
    known = records.kept()
    automatic = {name for name, model in params.models.items() if model.promote == "auto"}
    is_settled = known is not None and all(settled.is_settled(known, name, name in automatic) for name in names)
    return known if is_settled else None


def _unregistered(graph: graphs.Graph, stale: list[str]) -> list[str]:
    """Register stages that have something to do."""
    return [
        name
        for name, stage in graph.stages.items()
        if stage.verb == graphs.REGISTER
        and (set(stale).intersection(stage.needs) or not registry.is_current(stage.key))
    ]


def _work(graph: graphs.Graph, stale: list[str], cpu_threads: int, kills: int) -> list[Any]:
    """Run stages under one MLflow run and one Prefect flow run; commit dvc.lock whatever became of them."""
    from flows import services
    from flows.server import prefect_api
    from stages.tracking import runs

    commit = history.snapshot("visionline run: " + ", ".join(stale)[:200])
    for name in runs.close_dead_runs():
        Console().print(f"closed the MLflow run {name}, whose process is gone")
    parent = runs.begin_pipeline(commit, stale)
    os.environ |= {runs.PARENT_VARIABLE: parent, runs.COMMIT_VARIABLE: commit}
    Console().print(f"{len(stale)} of {len(graph.stages)} stages to do; starting Prefect")
    succeeded = False
    try:
        with prefect_api(services.prefect_api()):
            from flows import pipeline

            tasks = [stage.key for stage in graph.stages.values() if stage.verb == graphs.REGISTER]
            workers = pipeline.capacity(cpu_threads)
            outcomes = pipeline.run(
                graph, stale, workers, lambda: markdown([_row(task, registry.aliases(task)) for task in tasks]), kills
            )
        succeeded = True
        return outcomes
    finally:
        with only_told(is_second=not succeeded):
            graphs.mend_lock()
            history.commit_only([graphs.LOCK], "run: " + ", ".join(stale)[:200])
        with only_told(is_second=not succeeded):
            runs.end_pipeline(parent, succeeded, {"stages": stale})


def _row(task: str, aliases: Mapping[str, str], known: records.Records | None = None) -> dict[str, Any]:
    """A task's line of the result table, from its report, its versions' aliases and what is known of its training."""
    report_file = REPORTS / f"{task}.json"
    if not report_file.is_file():
        return {"task": task}
    report = json.loads(report_file.read_text(encoding="utf8"))
    metric = report["main_metric"]
    values = {m: report[m]["intervals"].get(metric) for m in ("before", "scratch", "after") if m in report}
    return {
        "task": task,
        "metric": metric,
        "num_images": report["num_images"],
        **values,
        "aliases": dict(aliases),
        "findings": report["findings"],
        "training": cost.in_words(report["training"], cost.known_metrics(known, registry.contents(task)[0])),
    }


def _shown(value: Mapping[str, float | None] | None) -> str:
    if not value or value["value"] is None:
        return "–"
    if value.get("low") is None:
        return f"{value['value']:.3f}"
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


COLUMNS = ("task", "metric", "images", "before", "from scratch", "after", "versions")
MIN_WIDTHS = dict.fromkeys(("metric", "before", "from scratch", "after"), len("[0.000,"))


def _cells(row: Mapping[str, Any]) -> list[str]:
    aliases = ", ".join(f"{alias} {version}" for alias, version in sorted(row.get("aliases", {}).items()))
    shown = [_shown(row.get(name)) for name in ("before", "scratch", "after")]
    return [row["task"], row.get("metric", "–"), str(row.get("num_images", "–")), *shown, aliases or "–"]


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The result table with findings, for Prefect's pages."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    lines += ["", *(f"- {row['task']}: {finding}" for row in rows for finding in row.get("findings", []))]
    return "\n".join(lines)


def show(result: Mapping[str, Any], console: Console) -> None:
    """Print the result table and where to look further."""
    table = Table(title="Metrics on the test split, with bootstrap intervals", title_justify="left")
    for column in COLUMNS:  # in 80 columns a long name is folded sooner than a bound of an interval is cut
        table.add_column(column, no_wrap=column == "versions", min_width=MIN_WIDTHS.get(column), overflow="fold")
    for row in result["tasks"]:
        table.add_row(*(cell.replace(" [", "\n[").replace(", c", "\nc") for cell in _cells(row)))
    console.print(table)
    for row in result["tasks"]:
        for line in (*row.get("findings", []), *filter(None, [row.get("training")])):
            console.print(f"{row['task']}: {line}", highlight=False)
    for line in result["promotion"]:
        console.print(line, highlight=False)
    if not result["stale"]:
        console.print("Everything is up to date: nothing ran, nothing was registered.")
    else:
        console.print(f"{len(result['ran'])} stages ran, {result['seconds']:.0f} s. Pictures: {REPORTS}/TASK/")
    console.print("Look further: visionline ui (MLflow, Prefect, Data Docs), visionline status, visionline predict")
