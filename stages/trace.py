"""Operation `trace`: what a model, a dataset version or an image descends from and led to, as JSON on stdout."""

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stages.data import history, recall
from stages.params.files import sha256_of
from stages.tracking import exposure, lineage, records
from stages.tracking.lineage import Graph, Node
from stages.tracking.records import ModelVersion, Records
from stages.tracking.registry import CHAMPION


def trace_model(address: str) -> dict[str, Any]:
    """All that a registered version came from; ValueError with the versions there are when it is not one."""
    known = records.read()
    version = _version(known, address)
    graph = lineage.ancestors(known, version)
    _tell_of_data(graph)
    _tell_of_commits(graph)
    if version.name not in _tasks():
        graph.note(f"{version.name} is no task of params.yaml (renamed or removed): a run makes no new version of it")
    return {"root": lineage.version_node(version).id, "direction": "sources", **graph.document()}


def trace_data(name: str, revision: str) -> dict[str, Any]:
    """What a dataset version changed and what was built on it; ValueError when it is not known."""
    known = records.read()
    graph = Graph()
    digest = _dataset_hash(name, revision, known, graph)
    graph.nodes |= (built := lineage.descendants(known, name, digest)).nodes
    graph.edges |= built.edges
    _tell_of_data(graph)
    _tell_of_commits(graph)
    root = lineage.dataset_node(name, digest).id
    changed = _changes(name, digest, graph)
    live = sorted(node.title for node in graph.nodes.values() if node.kind == lineage.ALIAS)
    return {"root": root, "direction": "uses", "changes": changed, "live": live, **graph.document()}


def trace_image(image: str, similar_bits: int | None) -> dict[str, Any]:
    """Every dataset version that holds an image (a file, or the sha256 of one) and the models that saw it."""
    from stages.data.lookup import Lookup, is_sha256

    file = Path(image)
    if not file.is_file() and not is_sha256(image):
        raise ValueError(f"image {image}: no such file, and no sha256 (8 to 64 hex digits)")
    sha256 = sha256_of(file) if file.is_file() else image.lower()
    known, versions = exposure.known()
    graph, sightings = Graph(), []
    lookups = [Lookup(name, list(hashes)) for name, hashes in versions.items()]
    for lookup in lookups:
        sightings += lookup.find(sha256)
        for digest in lookup.unreadable:
            graph.note(f"nothing can be said of version {digest} of {lookup.name}: its index is in no cache or remote")
    if similar_bits is not None:
        there = {(s.dataset, s.key, s.shard) for s in sightings}
        phash = _phash(file, image, [lookup.phash(sha256) for lookup in lookups])
        alike = [s for lookup in lookups for s in lookup.similar(phash, similar_bits)]
        sightings += [s for s in alike if (s.dataset, s.key, s.shard) not in there]
    root = graph.add(Node(f"image:{sha256}", "image", f"image {sha256[:12]}", {"sha256": sha256, "asked": image}))
    found = [_sighting(graph, root, sighting, versions[sighting.dataset]) for sighting in sightings]
    models = exposure.models(graph, known, sightings)
    live = sorted({name for model in models if "trained on" in model["roles"] for name in model["live"]})
    told = {"sightings": found, "models": models, "live": live, "artifacts": exposure.artifacts(known, sightings)}
    return {"root": root, "direction": "uses", "sha256": sha256, **told, **graph.document()}


def _version(known: Records, address: str) -> ModelVersion:
    """NAME (its champion), NAME@ALIAS or NAME/VERSION."""
    name, _, alias = address.partition("@")
    name, _, number = name.partition("/")
    for version in known.of(name):
        if version.number == number if number else (alias or CHAMPION) in version.aliases:
            return version
    there = [f"{v.name}/{v.number}" + "".join(f" @{a}" for a in v.aliases) for v in known.of(name)]
    names = sorted({v.name for v in known.versions})
    told = f"of {name} there are: {', '.join(there)}" if there else f"registered are: {', '.join(names) or 'none'}"
    raise ValueError(f"no model {address!r} in the registry; {told}")


def _dataset_hash(name: str, revision: str, known: Records, graph: Graph) -> str:
    """The version that a revision of git, a hash or its first digits name; without one the present one."""
    in_git = [version.hash for version in history.versions(name)]
    hashes = list(dict.fromkeys([*in_git, *known.dataset_hashes().get(name, [])]))
    if not hashes:
        names = sorted({*history.all_versions(), *known.dataset_hashes()})
        raise ValueError(f"no dataset {name!r}; git and MLflow know: {', '.join(names) or 'none'}")
    if not revision:
        from stages.data.pointers import pointer_hash

        here = pointer_hash(Path(f"data/{name}.dvc"))
        if here is None:
            graph.note(f"data/{name}.dvc is not here (deleted or renamed): the newest known version is shown")
        return here or hashes[-1]
    matching = [digest for digest in hashes if len(revision) >= 6 and digest.startswith(revision)]
    found = matching[0] if len(matching) == 1 else history.version_at(name, revision)
    if found is None:
        raise ValueError(f"{revision!r} is no commit with data/{name}.dvc and no hash of a version: {' '.join(hashes)}")
    return found


def _tell_of_data(graph: Graph) -> None:
    """Add what git and DVC know to the dataset versions of a graph."""
    nodes = [node for node in graph.nodes.values() if node.kind == lineage.DATASET]
    in_git = history.all_versions() if nodes else {}
    for node in nodes:
        name, digest = node.facts["dataset"], node.facts["hash"]
        version = next((v for v in in_git.get(name, []) if v.hash == digest), None)
        node.facts |= recall.recall(name, digest, version)
        if version is None:
            graph.note(f"no commit that git has holds version {digest} of {name}: its history was rewritten or is lost")
        if node.facts["missing"]:
            graph.note(f"version {digest} of {name} can't be brought back: {node.facts['missing']}")


def _tell_of_commits(graph: Graph) -> None:
    commits = {node.facts["snapshot commit"] for node in graph.nodes.values() if node.facts.get("snapshot commit")}
    for commit in sorted(commits - history.known_commits(commits)):
        titles = sorted(n.title for n in graph.nodes.values() if n.facts.get("snapshot commit") == commit)
        graph.note(f"git has no commit {commit} any more, the snapshot of {', '.join(titles)}")


def _tasks() -> Iterable[str]:
    from stages.params import document

    return document.load().tasks


def _changes(name: str, digest: str, graph: Graph) -> dict[str, Any] | None:
    """What changed since the version before, in the first commit's parent; None where there is nothing to compare."""
    from stages.data.changes import changes

    version = next((v for v in history.versions(name) if v.hash == digest), None)
    before = history.version_at(name, f"{version.commit}^") if version else None
    if before is None:
        return None
    try:
        return {"since": before, **changes(name, before, digest).document()}
    except FileNotFoundError as error:
        graph.note(f"what changed since version {before} can't be told: {error}")
        return None


def _phash(file: Path, image: str, found: Iterable[str | None]) -> str:
    """The perceptual hash of a file, or of the sample that has the sha256."""
    if file.is_file():
        from stages.data import images  # brings scipy along

        return images.inspect(file.read_bytes()).phash
    known = next(filter(None, found), None)
    if known is None:
        raise ValueError(f"--similar needs a file or the sha256 of a known image; none has {image}")
    return known


def _sighting(graph: Graph, root: str, sighting: Any, in_git: dict[str, history.Version | None]) -> dict[str, Any]:
    """A sample as plain data, with its dataset versions in the graph."""
    told = []
    for digest in sighting.versions:
        version = in_git[digest]
        node = lineage.dataset_node(sighting.dataset, digest)
        node.facts |= {"commit": version.commit, "committed": version.when} if version else {"commit": None}
        graph.link(graph.add(node), root, f"{sighting.split}: {sighting.source}")
        told.append({"hash": digest, "commit": version.commit if version else None})
    remaining = recall.remains(sighting.dataset, sighting.shard, sighting.versions)
    return {**asdict(sighting), "versions": told, "remains": remaining}


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0; 2 when there is no such thing, told in one line."""
    parser = argparse.ArgumentParser(prog="python -m stages.trace", description=__doc__)
    parser.add_argument("kind", choices=["model", "data", "image"])
    parser.add_argument("what", help="NAME@ALIAS or NAME/VERSION; NAME or NAME@REV; a file or a sha256")
    parser.add_argument("--similar", type=int, metavar="BITS", help="of 64 bits of the perceptual hash that may differ")
    options = parser.parse_args(arguments)
    try:
        if options.kind == "model":
            result = trace_model(options.what)
        elif options.kind == "data":
            name, _, revision = options.what.partition("@")
            result = trace_data(name, revision)
        else:
            result = trace_image(options.what, options.similar)
    except ValueError as error:
        print(f"trace: {error}", file=sys.stderr)
        return 2
    except (OSError, RuntimeError) as error:
        print(f"trace: {error}", file=sys.stderr)
        return 1
    json.dump({"asked": f"{options.kind}:{options.what}", **result}, sys.stdout, default=str)
    return 0


if __name__ == "__main__":
    sys.exit(main())
