"""Stage `certify`: compare a model that was built again with the registered version that it shall equal.

`python -m stages.certify NAME VERSION WORKTREE --output FOLDER` writes certificate.json and certificate.html there.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from stages.params import document
from stages.tracking.process import die_with_parent, errors_in_lines, limit_threads

TOLERANCE = 0.02  # of the main metric, where lock file, threads or instruction set differ from the recorded ones


def certify(name: str, number: str, worktree: Path, output: Path) -> dict[str, Any]:
    """Write the certificate and return it: `equal` bit for bit, else `equivalent` in its metric, else `different`."""
    from stages.data.shards import replace_file
    from stages.data.versions import hash_path
    from stages.pictures import certificate
    from stages.tracking import environment, lineage, records, registry

    version = registry.version(f"{name}/{number}")
    run = lineage.builder(records.read(), version.model_hash)
    recorded = {tag: run.tags.get(tag) for tag in (environment.LOCK, environment.CPU, environment.CPU_THREADS)}
    here = environment.environment_tags()
    rebuilt = worktree / "models" / name
    is_equal = hash_path(rebuilt) == version.model_hash
    content: dict[str, Any] = {
        "model": name,
        "version": number,
        "model_hash": version.model_hash,
        "rebuilt_hash": hash_path(rebuilt),
        "snapshot_commit": run.tags["git.commit"],
        "trained_on": [{"dataset": dataset, "hash": digest} for dataset, digest in version.trained_on],
        "environment": {
            tag.removeprefix("visionline."): {"recorded": recorded[tag], "here": here[tag]} for tag in recorded
        },
        "same_environment": all(recorded[tag] == here[tag] for tag in recorded),
    }
    if is_equal:
        content |= {"verdict": "equal", "reason": "every file of the model is equal, bit for bit"}
    else:
        content |= _measured(name, version, rebuilt, content["same_environment"])
    replace_file(output / "certificate.json", (json.dumps(content, indent=1) + "\n").encode())
    replace_file(output / "certificate.html", certificate.page(content).encode())
    return content


def _measured(name: str, version: Any, rebuilt: Path, is_same_environment: bool) -> dict[str, Any]:
    """What differs, and whether the main metric does not, where equal bits can't be asked for."""
    from stages.data.dataset import Dataset
    from stages.data.samples import StoredImages
    from stages.models import folder
    from stages.tasks.evaluation import measure
    from stages.tasks.trained import Trained
    from stages.tracking import registry

    registered = next(Path(registry.mlflow_artifacts(version)).rglob(folder.WEIGHTS))
    trained = Trained(rebuilt)
    metric = trained.task.main_metric
    dataset = Dataset(Path("data") / document.task_params(name).dataset)
    value = float(
        measure(trained.task, trained.model, StoredImages(dataset, "test", *trained.task.columns)).compute()[metric]
    )
    told = version.reported(metric)
    is_close = told is not None and abs(value - told) <= TOLERANCE
    tensors = folder.differing_tensors(registered, rebuilt / folder.WEIGHTS)
    reason = (
        "lock file, threads and instruction set are the recorded ones: the bits should be equal"
        if is_same_environment
        else "lock file, threads or instruction set differ from the recorded ones, which changes the bits"
    )
    return {
        "verdict": "equivalent" if is_close and not is_same_environment else "different",
        "reason": reason,
        "metric": {"name": metric, "registered": told, "rebuilt": value, "tolerance": TOLERANCE},
        "differing_tensors": tensors,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stages.certify", description=__doc__)
    parser.add_argument("name", help="a registered model")
    parser.add_argument("version", help="its version in the registry")
    parser.add_argument("worktree", type=Path, help="checkout in which it was built again")
    parser.add_argument("--output", type=Path, required=True, help="folder for the certificate")
    return parser


if __name__ == "__main__":
    options = _parser().parse_args(sys.argv[1:])
    die_with_parent()
    with errors_in_lines(f"certify {options.name}"):
        limit_threads(document.cpu_threads())
        certify(options.name, options.version, options.worktree, options.output)
