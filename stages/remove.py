"""Operation `remove`: take images out of a dataset. `python -m stages.remove NAME IMAGE... --report FILE.json`."""

import argparse
import glob
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stages.data import history, objects, removals
from stages.data.lookup import Lookup, Sighting, is_sha256
from stages.data.pointers import pointer_hash
from stages.data.shards import replace_file
from stages.data.versions import hash_file
from stages.params.files import sha256_of
from stages.tracking import artifacts, exposure, lineage
from stages.tracking.full_disk import advised
from stages.tracking.records import Records


def plan(name: str, images: Sequence[str]) -> dict[str, Any]:
    """What a removal would touch: samples, models to train anew, and all places of the bytes; nothing is changed.

    ValueError when one of the images (a file, a path of the source, a sha256) is in no version of the dataset.
    """
    known, versions = exposure.known()
    lookups = [Lookup(other, list(hashes)) for other, hashes in versions.items()]
    own = next((lookup for lookup in lookups if lookup.name == name), None)
    if own is None:
        raise ValueError(f"no dataset {name!r}; there are: {', '.join(versions) or 'none'}")
    hashes = sorted({digest for image in images for digest in _hashes(own, image)})
    seen = [s for lookup in lookups for digest in hashes for s in lookup.find(digest)]
    mine = [s for s in seen if s.dataset == name]
    models = exposure.models(lineage.Graph(), known, mine)
    folder = Path("data") / name
    here = removals.samples(folder, hashes) if (folder / "index").is_dir() else []
    return {
        "dataset": name,
        "images": [{"sha256": s.sha256, "source": s.source, "split": s.split} for s in _unique(mine)],
        "samples": here,
        "retrain": [m for m in models if "trained on" in m["roles"]],
        "also in": sorted({s.dataset for s in seen} - {name}),
        "unreadable": {lookup.name: lookup.unreadable for lookup in lookups if lookup.unreadable},
        "purge": _purge(name, known, versions, mine),
    }


def _hashes(lookup: Lookup, image: str) -> set[str]:
    """The sha256 of all that a person can mean by an image."""
    file = Path(image)
    if file.is_file():
        named = sha256_of(file)
    else:
        from_source = removals.hashes_of(Path("data") / lookup.name, image)
        if from_source or not is_sha256(image):
            if not from_source:
                raise ValueError(f"{image}: no file, no path in the index of {lookup.name} as it lies here, no sha256")
            return from_source
        named = image.lower()
    found = {sighting.sha256 for sighting in lookup.find(named)}
    if not found:
        raise ValueError(f"{image}: no version of {lookup.name} holds the image {named}")
    if len(found) > 1:
        raise ValueError(f"{image}: {len(found)} images of {lookup.name} begin with that: give all 64 digits")
    return found


def _unique(sightings: Iterable[Sighting]) -> list[Sighting]:
    return list({(s.sha256, s.source): s for s in sightings}.values())


def _purge(name: str, known: Records, versions: exposure.Versions, seen: Sequence[Sighting]) -> dict[str, Any]:
    """Where bytes would go: shards, what evaluations wrote in DVC and MLflow, and the versions that can't come back."""
    tars: set[str] = set()
    for sighting in seen:
        for digest in sighting.versions:
            tars.add(history.listing(digest)[f"{history.SHARDS}{sighting.shard}.tar"])
    derived, shared = _derived(known, seen)
    lost = [
        {"dataset": other, "hash": digest, "commit": version.commit if version else None}
        for other, hashes in versions.items()
        for digest, version in hashes.items()
        if tars.intersection(_listed(digest))
    ]
    return {
        "shards": sorted(tars),
        "derived": {path: sorted(md5s) for path, md5s in sorted(derived.items())},
        "derived objects": sorted(set().union(*derived.values()) - shared),
        "artifacts": exposure.artifacts(known, seen),
        "can not come back": lost,
        "in use by": sorted(other for other in versions if other != name and tars.intersection(_present(other))),
    }


def _present(name: str) -> set[str]:
    """Objects of a dataset as its pointer stands."""
    digest = pointer_hash(Path(f"data/{name}.dvc"))
    return _listed(digest) if digest else set()


def _listed(digest: str) -> set[str]:
    """Objects of a version; none where even its list is lost."""
    try:
        return set(history.listing(digest).values())
    except FileNotFoundError:
        return set()


def _derived(known: Records, seen: Sequence[Sighting]) -> tuple[dict[str, set[str]], set[str]]:
    """What evaluations wrote of test images: path in their folder -> DVC's objects; and the objects of other files.

    Those are not this image's alone: a class map of one class is the same for each image of that size, whoever measured
    it, and an evaluation that did not meet the image may have drawn the same pictures of others.
    """
    tested, names = exposure.tested(seen), exposure.files(seen)
    folders: dict[bool, set[str]] = {True: set(), False: set()}  # whether the image was measured
    for run in known.runs:
        if digest := exposure.folder_of(run):
            folders[bool(tested.intersection(run.data.items()))].add(digest)
    derived: dict[str, set[str]] = {}
    others: set[str] = set()
    for path, md5 in _written(folders[True]):
        if path in names:
            derived.setdefault(path, set()).add(md5)
        else:
            others.add(md5)
    if derived:
        others.update(md5 for _, md5 in _written(folders[False]))
    own = {path: md5s - others if path in exposure.OF_ALL else md5s for path, md5s in derived.items()}
    return {path: md5s for path, md5s in own.items() if md5s}, others


def _written(digests: set[str]) -> Iterator[tuple[str, str]]:
    """Path and object of all that evaluations wrote; their lists are brought from the remotes in one go.

    Of a list that nobody has the files can't come back: there is nothing to delete, and nothing to spare.
    """
    for digest in sorted(digests - objects.fetch(digests)):
        yield from history.listing(digest).items()


def remove(name: str, planned: dict[str, Any]) -> dict[str, Any]:
    """Take the planned samples out of the dataset as it lies here."""
    folder = Path("data") / name
    rewritten = removals.take_out(folder, planned["samples"]) if planned["samples"] else 0
    return {"removed": len(planned["samples"]), "shards_rewritten": rewritten}


def purge(planned: dict[str, Any]) -> dict[str, int]:
    """Delete the bytes that a plan names; place -> number of things deleted. Indexes stay: trace goes on to tell."""
    doomed = planned["purge"]
    deleted = objects.delete([*doomed["shards"], *doomed["derived objects"]])
    for path, md5s in doomed["derived"].items():
        for file in sorted(Path(exposure.EVALUATIONS).glob(f"*/{glob.escape(path)}")):
            if file.is_file() and hash_file(file) in md5s:
                file.unlink()
    deleted["MLflow artifacts"] = sum(artifacts.delete(entry["run"], entry["files"]) for entry in doomed["artifacts"])
    return deleted


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0; 1 when the work failed, 2 when there is no such image, told in one line."""
    parser = argparse.ArgumentParser(prog="python -m stages.remove", description=__doc__)
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="a file, a path of the source or a sha256")
    parser.add_argument("--report", type=Path, required=True, metavar="FILE.json", help="where the plan is kept")
    parser.add_argument("--apply", action="store_true", help="do what the report plans, instead of planning it")
    parser.add_argument("--purge", action="store_true", help="with --apply: delete the bytes everywhere")
    options = parser.parse_args(arguments)
    try:
        if not options.apply:
            report = plan(options.name, options.images)
        else:
            report = json.loads(options.report.read_text(encoding="utf8"))
            report |= {"deleted": purge(report)} if options.purge else remove(options.name, report)
    except ValueError as error:
        print(f"remove: {error}", file=sys.stderr)
        return 2
    except (OSError, RuntimeError) as error:
        print(advised(f"remove: {error}"), file=sys.stderr)
        return 1
    replace_file(options.report, json.dumps(report, default=asdict).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
