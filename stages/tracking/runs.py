"""MLflow runs: one for a pipeline, one nested in it for each stage that really ran."""

import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.data import pointers
from stages.tracking import store
from stages.tracking.environment import environment_tags
from stages.tracking.process import is_alive, only_told, start_mark
from stages.tracking.records import REPRODUCTION

PARENT_VARIABLE = "VISIONLINE_PARENT_RUN"
COMMIT_VARIABLE = "VISIONLINE_COMMIT"
# Which version a stage is run again for: such runs are nobody's ancestors.
REPRODUCTION_VARIABLE = "VISIONLINE_REPRODUCTION"
FLOW_RUN_VARIABLE = "VISIONLINE_FLOW_RUN"
FLUSH_EVERY_S = 5.0
MAX_PARAM_LENGTH = 6000


class StageRun:
    """The MLflow run of a stage that is running; metrics are sent in batches."""

    def __init__(self, name: str, run_id: str, dep_hashes: Mapping[str, str], commit: str) -> None:
        self.name, self.run_id, self.dep_hashes, self.commit = name, run_id, dep_hashes, commit
        self.params: dict[str, Any] = {}
        self._metrics: list[Any] = []
        self._flushed_s = time.monotonic()

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log a section of params.yaml, nested keys joined by dots as they are written there."""
        from mlflow.entities import Param

        self.params |= params
        flat = [Param(key, str(value)[:MAX_PARAM_LENGTH]) for key, value in flattened(params)]
        for start in range(0, len(flat), 100):
            store.client().log_batch(self.run_id, params=flat[start : start + 100])

    def log_metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Note numbers of a step; they are sent within seconds and at the end."""
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        self._metrics += [Metric(name, float(value), now_ms, step) for name, value in values.items()]
        if time.monotonic() - self._flushed_s > FLUSH_EVERY_S or len(self._metrics) > 500:
            self.flush()

    def flush(self) -> None:
        """Send what was noted."""
        for start in range(0, len(self._metrics), 1000):
            store.client().log_batch(self.run_id, metrics=self._metrics[start : start + 1000])
        self._metrics, self._flushed_s = [], time.monotonic()

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a file, or a folder with all that is in it."""
        if path.is_dir():
            store.client().log_artifacts(self.run_id, str(path), folder or path.name)
        else:
            store.client().log_artifact(self.run_id, str(path), folder)

    def log_dataset(self, name: str, context: str) -> None:
        """Name a dataset version as an input; its digest is the hash that DVC knows it by."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        digest = pointers.pointer_hash(Path("data") / f"{name}.dvc")
        if digest is None:
            return
        dataset = Dataset(name, digest, source_type="dvc", source=json.dumps({"path": f"data/{name}"}))
        tag = InputTag("mlflow.data.context", context)
        store.client().log_inputs(self.run_id, datasets=[DatasetInput(dataset, [tag])])

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""
        from mlflow.entities import RunTag

        store.client().log_batch(self.run_id, tags=[RunTag(key, value) for key, value in tags.items()])


def flattened(section: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested mappings as pairs of dotted key and value."""
    pairs = []
    for key, value in section.items():
        nested = isinstance(value, Mapping) and value
        pairs += flattened(value, f"{prefix}{key}.") if nested else [(f"{prefix}{key}", value)]
    return pairs


@contextmanager
def stage_run(stage: str, key: str) -> Iterator[StageRun]:
    """The run of STAGE@KEY, nested in the pipeline's; FINISHED only once the hashes of all outputs are its tags.

    A run without these tags is nobody's ancestor: its outputs may be half-written.
    """
    name = f"{stage}@{key}"
    tags = {"visionline.stage": stage, "visionline.key": key, **origin(), **process_tags(), **environment_tags()}
    with pointers.stage_files(name) as files:
        dep_hashes = files.dep_hashes()
        tags |= {f"dvc.dep.{path}": digest for path, digest in dep_hashes.items()}
        run_id = store.client().create_run(store.experiment_id(), tags=tags, run_name=name).info.run_id
        run = StageRun(name, run_id, dep_hashes, tags["git.commit"])
        with closing(run), _system_metrics(run_id):
            yield run
            run.flush()
            run.set_tags({f"dvc.out.{path}": digest for path, digest in files.out_hashes().items()})
    store.client().set_terminated(run_id, "FINISHED")


@contextmanager
def closing(run: StageRun) -> Iterator[None]:
    """End a run as FAILED, or KILLED when it was interrupted, with the reason as a tag."""
    try:
        yield
    except BaseException as error:
        with only_told():  # the run then stays open, and the next `visionline run` closes it
            run.flush()
            run.set_tags({"visionline.error": f"{type(error).__name__}: {error}"[:5000]})
            store.client().set_terminated(run.run_id, "FAILED" if isinstance(error, Exception) else "KILLED")
        raise


@contextmanager
def _system_metrics(run_id: str) -> Iterator[None]:
    """MLflow's own sampling of CPU, memory, disk, network and GPU."""
    import logging

    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    logging.getLogger("mlflow.system_metrics").setLevel(logging.WARNING)
    monitor = SystemMetricsMonitor(
        run_id, sampling_interval=5, samples_before_logging=6, tracking_uri=store.tracking_uri()
    )
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()


def origin() -> dict[str, str]:
    """The pipeline run, the commit and the Prefect flow run that this process was started for, as its parent told."""
    told = {"mlflow.parentRunId": PARENT_VARIABLE, "git.commit": COMMIT_VARIABLE, "prefect.flow_run": FLOW_RUN_VARIABLE}
    told |= {REPRODUCTION: REPRODUCTION_VARIABLE}
    tags = {tag: os.environ[variable] for tag, variable in told.items() if os.environ.get(variable)}
    return {"git.commit": pointers.head_commit() or "", **tags}


def process_tags() -> dict[str, str]:
    """What tells later whether the process behind a run is still alive."""
    pid = os.getpid()
    return {
        "visionline.host": platform.node(),
        "visionline.pid": str(pid),
        "visionline.started": start_mark(pid),
        "mlflow.source.name": "visionline",
    }


def begin_pipeline(commit: str, changed: list[str]) -> str:
    """Open the parent run of a pipeline; returns its id."""
    tags = {
        "visionline.stage": "pipeline",
        "git.commit": commit,
        "visionline.stale": ", ".join(changed),
        **process_tags(),
    }
    return store.client().create_run(store.experiment_id(), tags=tags, run_name="pipeline").info.run_id


def end_pipeline(run_id: str, succeeded: bool, summary: Mapping[str, Any]) -> None:
    """Close the parent run, with the result table as an artifact."""
    store.client().log_dict(run_id, dict(summary), "result.json")
    store.client().set_terminated(run_id, "FINISHED" if succeeded else "FAILED")


def close_dead_runs() -> list[str]:
    """End as KILLED every run that is still open though its process on this machine is gone; returns their names."""
    running = store.client().search_runs(
        [store.experiment_id()], f"attributes.status = 'RUNNING' and tags.`visionline.host` = '{platform.node()}'"
    )
    dead = [r for r in running if not is_alive(int(r.data.tags["visionline.pid"]), r.data.tags["visionline.started"])]
    for run in dead:
        store.client().set_terminated(run.info.run_id, "KILLED")
    return [run.info.run_name for run in dead]


def note_reproduction(name: str, number: str, folder: Path, verdict: str) -> str:
    """Attach a certificate's files to a version, as a run of its own and a tag; returns the run's id."""
    client = store.client()
    tags = {"visionline.stage": "reproduce", "visionline.key": name, REPRODUCTION: f"{name}/{number}"}
    run_id = client.create_run(store.experiment_id(), tags=tags, run_name=f"reproduce@{name}").info.run_id
    client.log_artifacts(run_id, str(folder), "certificate")
    client.set_terminated(run_id, "FINISHED")
    client.set_model_version_tag(name, number, "visionline.certificate", f"runs:/{run_id}/certificate")
    client.set_model_version_tag(name, number, "visionline.reproduced", verdict)
    return run_id


def costs_s() -> dict[str, float]:
    """Stage -> seconds that its last finished run took."""
    finished = store.client().search_runs(
        [store.experiment_id()],
        "attributes.status = 'FINISHED'",
        max_results=1000,
        order_by=["attributes.start_time ASC"],
    )
    return {r.info.run_name: (r.info.end_time - r.info.start_time) / 1000 for r in finished if r.info.end_time}
