"""Which models and artifacts an image reached: by the dataset versions and splits that hold it."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from stages.data import history, objects
from stages.tracking import lineage, records
from stages.tracking.lineage import Graph
from stages.tracking.records import Records, Run
from stages.tracking.registry import CARD

if TYPE_CHECKING:
    from stages.data.lookup import Sighting

ROLES = {"train": "trained on", "val": "validated on", "test": "measured on"}
EVALUATIONS = "reports/evaluate"  # a folder a task, which its run keeps as PICTURES
PICTURES = "pictures"
SHEETS = ("worst.png", "random.png")  # they show test images
LISTS = ("predictions.csv", "predictions.json", "predictions_boxes.json", "ground_truth.json")  # of all test images
OF_ALL = frozenset({*SHEETS, *LISTS})
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


def files(sightings: "Iterable[Sighting]") -> frozenset[str]:
    """What an evaluation may have written of test images, as paths in its folder: pictures, answers, class maps."""
    from stages.metrics.cityscapes import result_name  # brings NumPy along

    shown = [sighting for sighting in sightings if sighting.split == "test"]
    maps = {f"predictions/{s.key}.png" for s in shown} | {f"cityscapes/{result_name(s.source)}" for s in shown}
    return OF_ALL | maps


def tested(sightings: "Iterable[Sighting]") -> set[tuple[str, str]]:
    """Dataset versions (name, hash) that hold the image in their test split."""
    return {(s.dataset, digest) for s in sightings if s.split == "test" for digest in s.versions}


def folder_of(run: Run) -> str | None:
    """DVC's hash of the folder that an evaluation wrote."""
    found = (digest for path, digest in run.outs.items() if path == f"{EVALUATIONS}/{run.key}")
    return next(found, None) if run.stage == "evaluate" else None


def artifacts(told: Records, sightings: "Sequence[Sighting]") -> list[dict[str, Any]]:
    """Artifacts of MLflow that show or tell of an image in a test split: those of evaluations, and model cards."""
    shown, names = tested(sightings), files(sightings)
    found = [
        {"run": run.id, "name": run.name, "address": run.artifacts, "files": _kept(run, names)}
        for run in told.runs
        if run.stage == "evaluate" and shown.intersection(run.data.items())
    ]
    return found + [
        {"run": version.run_id, "name": f"{version.name} {version.number}", "address": "", "files": [CARD_FILE]}
        for version in told.versions
        if CARD in version.tags and (version.dataset, version.dataset_hash) in shown
    ]


def _kept(run: Run, names: frozenset[str]) -> list[str]:
    """Those of the files that a run kept; all of them where nobody can tell any more what it wrote."""
    folder = folder_of(run)
    is_known = folder is not None and objects.cached(folder).is_file()
    written = names.intersection(history.listing(folder)) if folder is not None and is_known else names
    return [f"{PICTURES}/{name}" for name in sorted(written)]
