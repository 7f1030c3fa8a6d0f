"""The operation `status`: datasets, stages with why they are stale and what they cost, models with their aliases."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from flows import graph as graphs
from flows.project import UsageError
from stages.params import document

NUM_LOG_FILES = 2  # of served requests, the newest


def status() -> dict[str, Any]:
    """The state of the repository, as plain data; UsageError when params.yaml or dvc.yaml can't be read."""
    from stages.tracking import registry, requests, runs

    try:
        params = document.load()
        graph = graphs.read()
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from None
    problems = {pointer.path: pointer.problem for pointer in graph.pointers}
    stale = set(graph.stale())
    costs = runs.costs_s()
    return {
        "datasets": [{"name": n, "state": _dataset_state(n, problems)} for n in params.datasets],
        "stages": [_stage(stage, stale, costs) for stage in graph.stages.values() if stage.verb != graphs.REGISTER],
        "models": [{"name": name, "aliases": registry.aliases(name)} for name in params.tasks],
        "serving": [
            {"model": name, **row}
            for name in params.tasks
            for row in requests.compared(requests.read(name, NUM_LOG_FILES))
        ],
    }


def _dataset_state(name: str, problems: Mapping[str, str]) -> str:
    if not Path(f"data/{name}.dvc").is_file():
        return "no data yet: visionline ingest"
    return problems.get(f"data/{name}") or "as its pointer says"


def _stage(stage: graphs.Stage, stale: set[str], costs: Mapping[str, float]) -> dict[str, Any]:
    waits = sorted(stale.intersection(stage.needs))
    reasons = list(stage.reasons) + [f"needs {name}" for name in waits]
    return {"name": stage.name, "fresh": stage.name not in stale, "reasons": reasons, "seconds": costs.get(stage.name)}


def show(state: Mapping[str, Any], console: Console) -> None:
    """Print the state as tables."""
    datasets = Table("dataset", "state")
    for row in state["datasets"]:
        datasets.add_row(row["name"], row["state"])
    stages = Table("stage", "state", "why", "last took")
    for row in state["stages"]:
        took = f"{row['seconds']:.0f} s" if row["seconds"] is not None else "–"
        stages.add_row(row["name"], "fresh" if row["fresh"] else "stale", "\n".join(row["reasons"][:4]), took)
    models = Table("model", "versions")
    for row in state["models"]:
        models.add_row(
            row["name"], ", ".join(f"{a} {v}" for a, v in sorted(row["aliases"].items())) or "none registered"
        )
    for table in (datasets, stages, models):
        console.print(table)
    if state["serving"]:
        console.print(_served(state["serving"]))


def _served(rows: Sequence[Mapping[str, Any]]) -> Table:
    """How the versions that answer, or answer beside, compare."""
    table = Table("served", "version", "as", "requests", "failed", "refused", "median ms", "p95 ms", "score", "agrees")
    for row in rows:
        table.add_row(
            row["model"], row["version"], row["role"], *(str(row[key]) for key in ("requests", "failed", "refused")),
            *(f"{row[key]:.1f}" for key in ("median_ms", "p95_ms")),
            *("–" if row[key] is None else f"{row[key]:.3f}" for key in ("mean_score", "agreement")),
        )  # fmt: skip
    return table
