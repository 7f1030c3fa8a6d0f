"""Who descends from whom: aliases, model versions, runs and dataset versions, tied by the hashes of their contents."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from stages.tracking.records import REPRODUCTION, ModelVersion, Records, Run
from stages.tracking.registry import TRAINED_ON

ALIAS, VERSION, RUN, DATASET, MISSING = "alias", "version", "run", "dataset", "missing"
MODELS, DATA, EVALUATIONS = "models/", "data/", "reports/evaluate/"
CONTROL = ".control"
SHORT = 10  # digits of a hash that people see


@dataclass
class Node:
    """A thing of the graph: its facts are plain data, by the words that people know them by."""

    id: str
    kind: str
    title: str
    facts: dict[str, Any] = field(default_factory=dict)
    page: str = ""  # its place in MLflow's pages


@dataclass
class Graph:
    """Nodes and edges; an edge goes from what was made to what it was made from."""

    nodes: dict[str, Node] = field(default_factory=dict)
    edges: dict[tuple[str, str], str] = field(default_factory=dict)  # (made, source) -> path and hash between them
    notes: list[str] = field(default_factory=list)  # what can't be found

    def add(self, node: Node) -> str:
        """Take a node unless it is there; its id."""
        self.nodes.setdefault(node.id, node)
        return node.id

    def link(self, made: str, source: str, by: str) -> None:
        """Note that one node was made from another."""
        self.edges.setdefault((made, source), by)

    def note(self, text: str) -> None:
        """Say once what can't be found."""
        if text not in self.notes:
            self.notes.append(text)

    def document(self) -> dict[str, Any]:
        """The graph as JSON."""
        return {
            "nodes": [asdict(node) for node in self.nodes.values()],
            "edges": [{"made": made, "from": source, "by": by} for (made, source), by in self.edges.items()],
            "notes": self.notes,
        }


@dataclass(frozen=True)
class TrainedOn:
    """A dataset version whose train split formed the weights of a model."""

    dataset: str
    hash: str
    via: str  # '' directly, else the backbone's path


def ancestors(records: Records, version: ModelVersion) -> Graph:
    """All that a model version came from: the runs that made it, the dataset versions and how those were checked."""
    graph = Graph()
    top = graph.add(version_node(version))
    for alias in version.aliases:
        graph.link(graph.add(alias_node(version, alias)), top, "")
    _add_source(graph, records, top, f"{MODELS}{version.name}", version.model_hash, version.created)
    report = f"{EVALUATIONS}{version.name}.json"
    _add_source(graph, records, top, report, version.report_hash, version.created)
    if not any(node.kind == DATASET for node in graph.nodes.values()) and version.dataset:
        _add_dataset(graph, records, top, version.dataset, version.dataset_hash, version.created)
    return graph


def descendants(records: Records, dataset: str, digest: str) -> Graph:
    """All that was built on a dataset version, directly or through a backbone."""
    graph = Graph()
    root = graph.add(dataset_node(dataset, digest))
    for run in records.runs:
        if run.data.get(dataset) == digest or run.datasets.get(dataset) == digest:
            graph.link(_add_run(graph, run), root, _by(f"{DATA}{dataset}", digest))
            _add_products(graph, records, run)
    return graph


def trained_on(records: Records, version: ModelVersion) -> list[TrainedOn]:
    """Each dataset version that formed the weights of a model version, by any of the runs that made these weights."""
    found = dict.fromkeys(_trained_on(records, version.model_hash, ""))
    known = {(entry.dataset, entry.hash) for entry in found}
    # The version's own tags outlive its runs.
    noted = json.loads(version.tags.get(TRAINED_ON) or "[]") or [(version.dataset, version.dataset_hash)]
    for dataset, digest in noted:
        if dataset and (dataset, digest) not in known:
            found[TrainedOn(dataset, digest, "" if dataset == version.dataset else "its backbone")] = None
    return list(found)


def _trained_on(records: Records, model_hash: str, via: str) -> Iterator[TrainedOn]:
    for run in makers(records, model_hash):
        yield from (TrainedOn(name, digest, via) for name, digest in run.data.items())
        for path, digest in run.deps.items():
            if path.startswith(MODELS):
                yield from _trained_on(records, digest, path)


def makers(records: Records, digest: str) -> list[Run]:
    """Runs that wrote these contents, oldest first; reproductions only where nothing else did."""
    found = [run for run in records.runs if digest and digest in run.outs.values()]
    return [run for run in found if REPRODUCTION not in run.tags] or found


def builder(records: Records, model_hash: str) -> Run:
    """The newest run that made these weights; ValueError when MLflow knows of none."""
    made = makers(records, model_hash)
    if not made:
        raise ValueError(f"MLflow knows no finished run that made model {model_hash}: built elsewhere, or deleted")
    return made[-1]


def maker(records: Records, digest: str, before: str) -> Run | None:
    """The run whose contents were used at a time: the newest that began before it, else the newest."""
    found = makers(records, digest)
    return max(found, key=lambda run: (run.started <= before, run.started), default=None)


def _add_source(graph: Graph, records: Records, made: str, path: str, digest: str, before: str) -> None:
    """Add what wrote a file or folder that was read, and all before it."""
    if path.startswith(DATA):
        _add_dataset(graph, records, made, path.removeprefix(DATA), digest, before)
        return
    if not path.startswith((MODELS, EVALUATIONS)):
        return  # marks of validate: those runs hang on the dataset
    run = maker(records, digest, before)
    if run is None and path.endswith(CONTROL):
        return  # where a task asks for no control, its stage makes a mark and no run
    if run is None:
        graph.link(made, _add_missing(graph, path, digest), _by(path, digest))
        return
    is_new = run.id not in graph.nodes
    graph.link(made, _add_run(graph, run), _by(path, digest))
    if is_new:
        others = [other.id for other in makers(records, digest) if other.id != run.id]
        graph.nodes[run.id].facts |= {"same outputs by runs": others} if others else {}
        for dep, hashed in run.deps.items():
            _add_source(graph, records, run.id, dep, hashed, run.started)


def _add_dataset(graph: Graph, records: Records, made: str, name: str, digest: str, before: str) -> None:
    there = graph.add(dataset_node(name, digest))
    graph.link(made, there, _by(f"{DATA}{name}", digest))
    checks = [run for run in records.runs if run.stage == "validate" and run.datasets.get(name) == digest]
    check = max(checks, key=lambda run: (run.started <= before, run.started), default=None)
    graph.nodes[there].facts["validation"] = {"passed in run": check.id, **check.metrics} if check else None
    if check is None:
        graph.note(f"no finished run of validate@{name} for version {digest[:SHORT]} is in MLflow")
    elif not any(source == check.id for source, _ in graph.edges):
        graph.link(_add_run(graph, check), there, _by(f"{DATA}{name}/index", check.deps.get(f"{DATA}{name}/index", "")))


def _add_missing(graph: Graph, path: str, digest: str) -> str:
    graph.note(
        f"no finished run in MLflow made {path} with hash {digest or '(none noted)'}: "
        "it was deleted, or made in another experiment"
    )
    return graph.add(Node(f"missing:{path}@{digest}", MISSING, f"unknown maker of {path}", {"hash": digest}))


def _add_products(graph: Graph, records: Records, run: Run) -> None:
    """Add the runs that read what a run wrote, the versions made of it and their aliases."""
    for path, digest in run.outs.items():
        for version in records.versions:
            if digest and digest in (version.model_hash, version.report_hash):
                _add_version(graph, version, run.id, _by(path, digest))
        readers = records.runs if path.startswith(MODELS) else ()
        for reader in readers:
            if any(p.startswith(MODELS) and h == digest for p, h in reader.deps.items()):
                is_new = reader.id not in graph.nodes
                graph.link(_add_run(graph, reader), run.id, _by(path, digest))
                if is_new:
                    _add_products(graph, records, reader)


def _add_version(graph: Graph, version: ModelVersion, source: str, by: str) -> None:
    there = graph.add(version_node(version))
    graph.link(there, source, by)
    for alias in version.aliases:
        graph.link(graph.add(alias_node(version, alias)), there, "")


def version_node(version: ModelVersion) -> Node:
    """A registered version with what its tags say."""
    numbers = {k: v for k, v in version.tags.items() if not k.startswith(("visionline.", "git.", "mlflow."))}
    facts = {
        "registered": version.created,
        "status": version.status,
        "aliases": list(version.aliases),
        "held": list(version.held),
        "snapshot commit": version.commit,
        "model": version.model_hash,
        "report": version.report_hash,
        "run": version.run_id,
        **numbers,
    }
    return Node(
        f"model:{version.name}/{version.number}", VERSION, f"{version.name} {version.number}", facts, version.page
    )


def alias_node(version: ModelVersion, alias: str) -> Node:
    """An alias that a version holds now."""
    facts = {"of": version.name, "version": version.number}
    return Node(f"model:{version.name}@{alias}", ALIAS, f"{version.name}@{alias}", facts, f"#/models/{version.name}")


def dataset_node(name: str, digest: str) -> Node:
    """A dataset version; what git and DVC know of it is asked elsewhere."""
    return Node(f"data:{name}@{digest}", DATASET, f"data/{name} {digest[:SHORT]}", {"dataset": name, "hash": digest})


def _add_run(graph: Graph, run: Run) -> str:
    facts: dict[str, Any] = {
        "started": run.started,
        "seconds": round(run.seconds, 1),
        "snapshot commit": run.tags.get("git.commit", ""),
        "environment lock": run.tags.get("visionline.lock", "not noted"),
        "cpu": run.tags.get("visionline.cpu", "not noted"),
        "cpu threads": run.tags.get("visionline.cpu_threads", "not noted"),
        "Prefect flow run": run.tags.get("prefect.flow_run", "none"),
        "MLflow run": run.id,
        "pipeline run": run.tags.get("mlflow.parentRunId", "none"),
        "read": run.deps,
        "wrote": run.outs,
        "metrics": run.metrics,
        "parameters": run.params,
    }
    return graph.add(Node(run.id, RUN, run.name, facts, run.page))


def _by(path: str, digest: str) -> str:
    return f"{path} {digest[:SHORT]}"


def live(versions: Iterable[ModelVersion]) -> list[str]:
    """NAME@ALIAS of the versions that hold one."""
    return [f"{version.name}@{alias}" for version in versions for alias in version.aliases]
