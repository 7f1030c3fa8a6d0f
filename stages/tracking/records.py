"""What MLflow knows of runs and model versions, as plain records that are kept while its database stays the same."""

import gc
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from stages.data import objects
from stages.tracking import journal, registry, store
from stages.tracking.process import LOCAL_STATE, child_of_this_process, collect_garbage_rarely

KEPT = LOCAL_STATE / "trace" / "records.json"
FORMAT = 2  # of the kept file
DEP, OUT = "dvc.dep.", "dvc.out."
CODE = "stages/"  # deps that the commit tells of already
REPRODUCTION = "visionline.reproduction"  # a run that made again what another had made
PAGE = 1000


@dataclass(frozen=True)
class Run:
    """A finished run of a stage with the hashes of what it read and wrote."""

    id: str
    experiment: str
    stage: str
    key: str
    started: str  # ISO 8601
    seconds: float
    deps: dict[str, str]  # path -> hash; without code
    outs: dict[str, str]
    datasets: dict[str, str]  # name -> hash of the version that the run named as its input
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    artifacts: str  # address

    @property
    def name(self) -> str:
        """STAGE@KEY."""
        return f"{self.stage}@{self.key}"

    @property
    def page(self) -> str:
        """The run's place in MLflow's pages."""
        return f"#/experiments/{self.experiment}/runs/{self.id}"

    @property
    def data(self) -> dict[str, str]:
        """Dataset -> hash of the whole version that the run read."""
        return {p.removeprefix("data/"): h for p, h in self.deps.items() if p.startswith("data/") and p.count("/") == 1}


@dataclass(frozen=True)
class ModelVersion:
    """A registered version of a model and the aliases that it holds now."""

    name: str
    number: str
    created: str  # ISO 8601
    status: str
    run_id: str
    model_hash: str
    report_hash: str
    dataset: str
    dataset_hash: str
    commit: str
    tags: dict[str, str]
    aliases: tuple[str, ...]
    held: tuple[dict[str, Any], ...]  # alias, from, until: what the journal says, then the aliases it says nothing of

    @property
    def page(self) -> str:
        """The version's place in MLflow's pages."""
        return f"#/models/{self.name}/versions/{self.number}"


@dataclass(frozen=True)
class Records:
    """Runs, oldest first, and versions of all models."""

    runs: tuple[Run, ...]
    versions: tuple[ModelVersion, ...]

    def of(self, name: str) -> list[ModelVersion]:
        """The versions of a model, in order."""
        return [version for version in self.versions if version.name == name]

    def aliases(self, name: str) -> dict[str, str]:
        """Alias -> version number of a model."""
        return {alias: version.number for version in self.of(name) for alias in version.aliases}

    def dataset_hashes(self) -> dict[str, list[str]]:
        """Dataset -> the versions that any run read, oldest first: git may have lost some of them."""
        found: dict[str, dict[str, None]] = {}
        for run in self.runs:
            for name, digest in (*run.data.items(), *run.datasets.items()):
                found.setdefault(name, {})[digest] = None
        for version in self.versions:
            if version.dataset:
                found.setdefault(version.dataset, {})[version.dataset_hash] = None
        return {name: list(hashes) for name, hashes in found.items()}


@contextmanager
def asked_beside() -> Iterator[None]:
    """Within the block a process of its own asks MLflow, where it must be asked; then `read` after it need not.

    To import MLflow takes seconds of a core.
    """
    if store.state() is None or kept() is not None:
        yield
        return
    command, nothing = [sys.executable, "-m", "stages.tracking.records"], subprocess.DEVNULL
    # What it says is not needed: where it fails, `read` asks again and fails with the reason.
    with subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing, preexec_fn=child_of_this_process()):
        yield


def kept() -> Records | None:
    """What MLflow knows, from the file under .visionline/ and without MLflow; None when it may know more by now."""
    state = store.state()
    if state is None or not KEPT.is_file():
        return None
    told = json.loads(KEPT.read_text(encoding="utf8"))
    if told["state"] != f"{FORMAT} {state}":
        return None
    return Records(
        tuple(Run(**run) for run in told["runs"]),
        tuple(
            ModelVersion(**{**v, "aliases": tuple(v["aliases"]), "held": tuple(v["held"])}) for v in told["versions"]
        ),
    )


def read() -> Records:
    """What MLflow knows now; as it is kept when nothing was written since, without MLflow."""
    if known := kept():
        return known
    state = store.state()
    records = Records(tuple(_runs()), tuple(_versions()))
    if state is not None:
        objects.write(KEPT, json.dumps({"state": f"{FORMAT} {state}", **asdict(records)}).encode())
    return records


def keep() -> None:
    """Read what MLflow knows while it is imported, so that who asks next need not; nothing where a server keeps it."""
    if store.state() is not None:
        read()


def _runs() -> Iterator[Run]:
    """Runs that finished and were not deleted; one without hashes of its outputs is nobody's ancestor."""
    token = None
    while True:
        page = store.client().search_runs(
            [store.experiment_id()],
            "attributes.status = 'FINISHED'",
            max_results=PAGE,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        yield from (_run(run) for run in page if any(tag.startswith(OUT) for tag in run.data.tags))
        token = page.token
        if not token:
            return


def _run(run: Any) -> Run:
    tags = run.data.tags
    unread = (CODE, "data/") if run.data.params.get("training") == "None" else (CODE,)  # published weights stay as is
    inputs = run.inputs.dataset_inputs if run.inputs else []
    return Run(
        id=run.info.run_id,
        experiment=run.info.experiment_id,
        stage=tags.get("visionline.stage", ""),
        key=tags.get("visionline.key", ""),
        started=iso(run.info.start_time),
        seconds=((run.info.end_time or run.info.start_time) - run.info.start_time) / 1000,
        deps={path: digest for path, digest in _stripped(tags, DEP).items() if not path.startswith(unread)},
        outs=_stripped(tags, OUT),
        datasets={entry.dataset.name: entry.dataset.digest for entry in inputs},
        params=dict(run.data.params),
        metrics={k: v for k, v in run.data.metrics.items() if not k.startswith("system/")},
        tags={k: v for k, v in tags.items() if not k.startswith((DEP, OUT, "mlflow.")) or k == "mlflow.parentRunId"},
        artifacts=run.info.artifact_uri or "",
    )


def _stripped(tags: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {tag.removeprefix(prefix): value for tag, value in sorted(tags.items()) if tag.startswith(prefix)}


def _versions() -> Iterator[ModelVersion]:
    for model in store.client().search_registered_models(max_results=PAGE):
        # A search answers without aliases.
        aliases = registry.aliases(model.name)
        found = store.client().search_model_versions(f"name = '{model.name}'", max_results=PAGE)
        written = journal.entries(model.name)
        for version in sorted(found, key=lambda v: int(v.version)):
            held = sorted(alias for alias, number in aliases.items() if number == str(version.version))
            yield _version(version, tuple(held), periods(written, str(version.version)))


def periods(written: Sequence[journal.Entry], number: str) -> list[dict[str, Any]]:
    """When a version was champion, as the journal says; the present period has no end."""
    ends = [entry.when for entry in written[1:]] + [None]
    return [
        {"alias": registry.CHAMPION, "from": entry.when, "until": end, "by": entry.action, "who": entry.who}
        for entry, end in zip(written, ends, strict=False)
        if entry.version == number
    ]


def _version(version: Any, aliases: tuple[str, ...], held: list[dict[str, Any]]) -> ModelVersion:
    tags = dict(version.tags)
    return ModelVersion(
        name=version.name,
        number=str(version.version),
        created=iso(version.creation_timestamp),
        status=str(version.status),
        run_id=version.run_id or "",
        model_hash=tags.get(registry.MODEL_HASH, ""),
        report_hash=tags.get(registry.REPORT_HASH, ""),
        dataset=tags.get("visionline.dataset", ""),
        dataset_hash=tags.get("visionline.dataset_hash", ""),
        commit=tags.get("git.commit", ""),
        tags=tags,
        aliases=aliases,
        held=(*held, *({"alias": a, "from": None, "until": None} for a in aliases if not _is_told(a, held))),
    )


def _is_told(alias: str, held: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the journal knows since when a version holds an alias."""
    return any(period["alias"] == alias and period["until"] is None for period in held)


def iso(time_ms: int) -> str:
    """A time of MLflow's in ISO 8601, UTC, to the second."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds")


if __name__ == "__main__":
    collect_garbage_rarely()
    read()
    gc.freeze()  # Python's end would search all that MLflow imported for garbage, for a second
