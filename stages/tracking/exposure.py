"""Which models and artifacts an image reached: by the dataset versions and splits that hold it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from stages.data import history
from stages.tracking import lineage, records
from stages.tracking.lineage import Graph
from stages.tracking.records import Records
from stages.tracking.registry import CARD

if TYPE_CHECKING:
    from stages.data.lookup import Sighting

ROLES = {"train": "trained on", "val": "validated on", "test": "measured on"}
SHEETS = ("worst.png", "random.png")  # of evaluate, in the folder pictures of its run: they show test images
CARD_FILE = "card/card.html"

Versions = dict[str, dict[str, history.Version | None]]


def known() -> tuple[Records, Versions]:
    """What MLflow knows, and dataset -> hash -> its version in git, None where only MLflow remembers it.

    The arrays that images are found by are built while MLflow is being asked.
    """
    with records.asked_beside():
        from stages.data.lookup import Lookup  # brings Arrow along: imported while MLflow is being asked

        in_git = history.all_versions()
        for name, versions in in_git.items():
            Lookup(name, [version.hash for version in versions])
    told = records.read()
    found: Versions = {name: {v.hash: v for v in versions} for name, versions in in_git.items()}
    for name, hashes in told.dataset_hashes().items():
        found[name] = dict.fromkeys(hashes, None) | found.get(name, {})
    return told, found


def models(graph: Graph, told: Records, sightings: "Iterable[Sighting]") -> list[dict[str, Any]]:
    """Model versions that saw the image in a split of a dataset version: directly or through a backbone."""
    splits: dict[tuple[str, str], set[str]] = {}
    for sighting in sightings:
        for digest in sighting.versions:
            splits.setdefault((sighting.dataset, digest), set()).add(sighting.split)
    found = []
    for version in told.versions:
        roles = set()
        for source in lineage.trained_on(told, version):
            for split in sorted(splits.get((source.dataset, source.hash), ())):
                by = ROLES.get(split, split) + (f" through {source.via}" if source.via else "")
                if split != "test" or not source.via:
                    roles.add(by)
                    graph.add(lineage.version_node(version))
                    data = lineage.dataset_node(source.dataset, source.hash).id
                    graph.link(lineage.version_node(version).id, data, by)
        for alias in version.aliases if roles else ():
            graph.link(graph.add(lineage.alias_node(version, alias)), lineage.version_node(version).id, "")
        if roles:
            how = sorted({role.split(" through ")[0] for role in roles})
            entry = {"model": version.name, "version": version.number, "roles": how, "how": sorted(roles)}
            found.append({**entry, "live": lineage.live([version])})
    return found


def artifacts(told: Records, versions: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """Artifacts of MLflow that may show test images of dataset versions (name, hash): pictures of runs, model cards."""
    shown = set(versions)
    found = [
        {"run": run.id, "name": run.name, "address": run.artifacts, "files": [f"pictures/{sheet}" for sheet in SHEETS]}
        for run in told.runs
        if run.stage == "evaluate" and shown.intersection(run.data.items())
    ]
    return found + [
        {"run": version.run_id, "name": f"{version.name} {version.number}", "address": "", "files": [CARD_FILE]}
        for version in told.versions
        if CARD in version.tags and (version.dataset, version.dataset_hash) in shown
    ]
