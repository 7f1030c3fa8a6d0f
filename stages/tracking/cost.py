"""What the training of a model took: the share of its parameters, time and memory."""

from collections.abc import Mapping
from typing import Any

from stages.tracking import store
from stages.tracking.lineage import makers
from stages.tracking.records import OUT, Records

SECONDS, MEMORY = "training_s", "peak_memory_mib"  # metrics of the run


def in_words(training: Mapping[str, Any], metrics: Mapping[str, float]) -> str:
    """A report's `training` and the metrics of the run in one line; what MLflow does not know is left out."""
    parts = [f"{training['trainable_percent']:.3g} % of the parameters trained"]
    if SECONDS in metrics:
        parts.append(f"{metrics[SECONDS]:.0f} s")
    if MEMORY in metrics:
        parts.append(f"{metrics[MEMORY]:.0f} MiB at most")
    return f"{training['adaptation']['mode']}: {', '.join(parts)}"


def known_metrics(known: Records | None, model_hash: str) -> dict[str, float]:
    """Metrics of the newest run that made these weights, from what is kept of MLflow; empty when nothing is."""
    made = makers(known, model_hash) if known else []
    return made[-1].metrics if made else {}


def asked_metrics(name: str, model_hash: str) -> dict[str, float]:
    """The same, asked of MLflow."""
    made = f"attributes.status = 'FINISHED' and tags.`{OUT}models/{name}` = '{model_hash}'"
    newest = ["attributes.start_time DESC"]
    runs = store.client().search_runs([store.experiment_id()], made, max_results=1, order_by=newest)
    return dict(runs[0].data.metrics) if runs else {}
