"""Operation `drift`: whether recent inputs of a served model are still like its data, as JSON on stdout.

`python -m stages.drift TASK [--inputs FOLDER]`: images of a folder, or without one the request log of `serve`.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.params import document
from stages.params.retraining import DriftParams
from stages.tracking.process import die_with_parent, errors_in_lines, limit_threads

if TYPE_CHECKING:
    from stages.data.dataset import Dataset
    from stages.data.drift import Shift
    from stages.tasks.shift import Said
    from stages.tracking import registry
    from stages.tracking.answers import Place


def drift(name: str, inputs: Path | None, params: DriftParams) -> dict[str, Any]:
    """Each test with its distance and adjusted p value, and whether any of them is an alarm.

    ValueError when there are too few recent inputs, or no champion.
    """
    from stages.data.dataset import Dataset
    from stages.data.drift import holm
    from stages.tasks import shift
    from stages.tracking import findings, registry

    version = registry.version(name)
    dataset = Dataset(Path("data") / document.task_params(name).dataset)
    files = _newest(inputs, params.max_inputs) if inputs else []
    recent = _answers(version.uri, [(file, 0, None) for file in files]) if inputs else _logged(version, params)
    if len(recent) < params.min_inputs:
        where = f"{inputs}" if inputs else f"the request log of version {version.number}"
        raise ValueError(f"{where} holds {len(recent)} inputs that {name} answers; {params.min_inputs} say something")
    tars = dataset.folder / "shards"
    rows = _rows(dataset, "test", params.max_inputs)
    test = [(tars / f"{shard}.tar", offset, size) for shard, offset, size in rows]
    reference = _answers(version.uri, test)
    form = findings.form_of(document.task_params(name).kind)
    shifts = shift.answer_shifts(reference, recent, form if form != "labels" else None)
    if inputs:
        shifts["features"] = _feature_shift(name, files, dataset, params.max_inputs)
    adjusted = holm([found.p_value for found in shifts.values()])
    tests = {}
    for (what, found), p in zip(shifts.items(), adjusted, strict=True):
        is_alarm = p < params.alpha and found.distance >= params.min_distance
        tests[what] = {"distance": found.distance, "p": p, "is_alarm": is_alarm}
    return {
        "task": name,
        "version": version.number,
        "num_inputs": len(recent),
        "num_reference": len(reference),
        "tests": tests,
        "is_drifted": any(told["is_alarm"] for told in tests.values()),
    }


def _newest(folder: Path, most: int) -> list[Path]:
    """The images below a folder that changed last, the newest first."""
    from stages.data.formats._files import is_image

    found = [file for file in folder.rglob("*") if is_image(file.name) and file.is_file()]
    return sorted(found, key=lambda file: (-file.stat().st_mtime_ns, str(file)))[:most]


def _rows(dataset: "Dataset", split: str, most: int) -> list[tuple[str, int, int]]:
    """Shard, offset and size of the first images of a split: keys are hashes, so that the first are no choice."""
    table = dataset.table(split, ["shard", "offset", "size"]).slice(0, most)
    return list(zip(*(table[column].to_pylist() for column in table.column_names), strict=True))


def _answers(uri: str, places: "Sequence[Place]") -> "Sequence[Said]":
    """What a version says of images; those that can't be read are left out."""
    from stages.tracking import answers, requests

    return [requests.said([line["answer"]]) for line in answers.answers_of(uri, places) if "answer" in line]


def _logged(version: "registry.Version", params: DriftParams) -> "Sequence[Said]":
    """What the version answered to the newest requests that are logged."""
    from stages.tracking import requests

    kept = [
        (request.labels, request.scores)
        for request in requests.read(version.name)
        if request.version == version.number and request.status == 200 and request.role != "shadow"
    ]
    return kept[-params.max_inputs :]


def _feature_shift(name: str, files: Sequence[Path], dataset: "Dataset", most: int) -> "Shift":
    """Of the backbone's features, between images that it was trained on and files; what can't be read is left out."""
    from stages.data.images import inspect
    from stages.data.samples import LooseImages
    from stages.tasks import shift
    from stages.tasks.trained import Trained

    def is_image(data: bytes) -> bool:
        try:
            return bool(inspect(data).width)
        except ValueError:
            return False

    trained = Trained(Path("models") / name)
    known = LooseImages([dataset.read(*row) for row in _rows(dataset, "train", most)])
    recent = LooseImages([data for data in (file.read_bytes() for file in files) if is_image(data)])
    return shift.feature_shift(shift.features(trained, known), shift.features(trained, recent))


def main() -> int:
    """Exit code 0 whether or not there is a drift; 1 when it can't be told, with one line."""
    parser = argparse.ArgumentParser(prog="python -m stages.drift", description=__doc__)
    parser.add_argument("task", help="a task of params.yaml with a champion")
    parser.add_argument("--inputs", type=Path, metavar="FOLDER", help="recent images; else the request log")
    options = parser.parse_args()
    die_with_parent()
    with errors_in_lines(f"drift {options.task}"):
        limit_threads(document.cpu_threads())
        json.dump(drift(options.task, options.inputs, document.load().retraining.drift), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
