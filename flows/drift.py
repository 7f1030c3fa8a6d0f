"""The operation `drift`: are recent inputs still like the data? If not, images to be labelled are asked for."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from flows import predict, services
from flows.project import LOCAL_STATE, UsageError, WorkError
from stages.params import document
from stages.params.files import write_atomically
from stages.tracking import requests
from stages.tracking.process import child_of_this_process

EVENT = "visionline.drift"
LABELLING = LOCAL_STATE / "labelling"


def drift(name: str, inputs: Path | None) -> dict[str, Any]:
    """What `python -m stages.drift` finds; with a folder and a drift also `labelling`, the folder of a request.

    A drift is announced on the Prefect server, if there is one. WorkError when there are too few inputs.
    """
    params = _params(name)
    if inputs is not None and not inputs.is_dir():
        raise UsageError(f"--inputs {inputs}: must be a folder of images")
    command = [sys.executable, "-m", "stages.drift", name, *(["--inputs", str(inputs)] if inputs else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=child_of_this_process())
    if done.returncode:
        raise WorkError((done.stderr.strip().splitlines() or [f"stages.drift ended with {done.returncode}"])[-1])
    told = json.loads(done.stdout)
    if told["is_drifted"]:
        if inputs is not None:
            told["labelling"] = str(ask_for_labels(name, inputs, params.retraining.drift.num_asked))
        alarms = [what for what, test in told["tests"].items() if test["is_alarm"]]
        services.announce(EVENT, f"visionline.task.{name}", {"task": name, "alarms": alarms})
    return told


def look(tasks: Sequence[str] | None, inputs: str | None) -> dict[str, str]:
    """Task -> what was found, in words; without tasks, those that have a request log."""
    names = (
        tasks if tasks is not None else [name for name in document.load().tasks if (requests.FOLDER / name).is_dir()]
    )
    found = {}
    for name in names:
        try:
            told = drift(name, Path(inputs) if inputs else None)
        except WorkError as error:
            found[name] = f"{name}: {error}"
            continue
        alarms = [what for what, test in told["tests"].items() if test["is_alarm"]]
        found[name] = f"{name}: {', '.join(alarms)} changed" if alarms else f"{name}: like its data"
        found[name] += f"; to label: {told['labelling']}" if "labelling" in told else ""
    return found


def markdown(found: Mapping[str, str]) -> str:
    """What was found, for Prefect's pages."""
    return "\n".join(f"- {line}" for line in found.values()) or "nothing is served"


def ask_for_labels(name: str, inputs: Path, num: int) -> Path:
    """A folder with the images that the champion is least sure of: COCO with its answers as a start, and previews."""
    found = predict.predict(name, [inputs], predict.Written())
    asked = sorted(
        ((uncertainty(answer), file, answer) for file, answer in found if "error" not in answer),
        key=lambda row: (-row[0], str(row[1])),
    )[:num]
    files = [file for _, file, _ in asked]
    digest = hashlib.sha256("\n".join(str(file) for file in sorted(files)).encode()).hexdigest()[:12]
    folder = LABELLING / name / digest
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for file in files:
        write_atomically(folder / "images" / file.name, file.read_bytes())
    for _ in predict.predict(name, files, predict.Written(pictures=(folder / "previews").absolute())):
        pass
    write_atomically(folder / "task.json", json.dumps(coco(asked), indent=1).encode())
    return folder


def uncertainty(answer: Mapping[str, Any]) -> float:
    """How little a model trusts its answer, 0 to 1: 1 - its best score; of boxes, the mean closeness to 0.5 of each."""
    if "label" in answer:
        return 1.0 - float(answer["score"])
    scores = [box["score"] for box in answer["boxes"] if box["score"] >= 0.1]
    return sum(1 - abs(2 * score - 1) for score in scores) / len(scores) if scores else 0.5


def coco(asked: Sequence[tuple[float, Path, Mapping[str, Any]]]) -> dict[str, Any]:
    """COCO of images that shall be labelled, with what the model says of them as a first guess."""
    guesses = [answer.get("boxes", [answer]) for _, _, answer in asked]
    names = sorted({guess["label"] for found in guesses for guess in found})
    annotations: list[dict[str, Any]] = []
    for number, found in enumerate(guesses, 1):
        for guess in found:
            entry: dict[str, Any] = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": names.index(guess["label"]) + 1,
            }
            if "box_xyxy" in guess:
                x1, y1, x2, y2 = guess["box_xyxy"]
                entry |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
            annotations.append(entry | {"score": guess["score"]})
    images = [
        {"id": number, "file_name": f"images/{file.name}", "uncertainty": round(unsure, 4)}
        for number, (unsure, file, _) in enumerate(asked, 1)
    ]
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _params(name: str) -> document.Params:
    try:
        params = document.load()
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from None
    if name not in params.tasks:
        raise UsageError(f"{name} is no task; there are: {', '.join(params.tasks) or 'none'}")
    return params


def show(told: Mapping[str, Any], console: Console) -> None:
    """Print the tests, and what follows."""
    title = f"{told['task']} version {told['version']}: {told['num_inputs']} inputs against {told['num_reference']}"
    table = Table("of", "distance", "p", "", title=title, title_justify="left")
    for what, test in told["tests"].items():
        table.add_row(what, f"{test['distance']:.3f}", f"{test['p']:.2g}", "drift" if test["is_alarm"] else "")
    console.print(table)
    if told["is_drifted"]:
        console.print("the inputs have changed; label some of them, and visionline ingest them")
    if "labelling" in told:
        console.print(f"images to label, with previews and COCO: {told['labelling']}", highlight=False)
