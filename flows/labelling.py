"""Labelling requests: the inputs that a model is least sure of, with its answers as a first guess."""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows import predict
from flows.project import LOCAL_STATE
from stages.tracking import requests

FOLDER = LOCAL_STATE / "labelling"
BATCH, TASK, GUESS = "batch", "task.json", "first-guess"


def ask(name: str, inputs: Path, num: int) -> Path:
    """A folder with images and COCO of them, which ingest takes once a person has labelled it; previews lie beside it.

    Of a segmenter there are index PNGs too, in GUESS: corrected and renamed to masks/, they are `--format mask-png`.

    A request that is there already stays as it is: somebody may be at work on it.
    """
    found = predict.predict(name, [inputs], predict.Written())
    asked = sorted(
        ((uncertainty(answer), file, answer) for file, answer in found if "error" not in answer),
        key=lambda row: (-row[0], str(row[1])),
    )[:num]
    hashes = sorted(hashlib.sha256(file.read_bytes()).hexdigest() for _, file, _ in asked)
    folder = FOLDER / name / hashlib.sha256("".join(hashes).encode()).hexdigest()[:12]
    batch = (folder / BATCH).absolute()
    if (batch / TASK).is_file():
        return folder / BATCH
    (batch / "images").mkdir(parents=True, exist_ok=True)
    answers = {}
    for number, (unsure, file, answer) in enumerate(asked, 1):  # images of two folders may have one name
        image = Path(shutil.copyfile(file, batch / "images" / f"{number:03}-{file.name}"))
        answers[image] = _guess(answer) | {"uncertainty": round(unsure, 4)}
    has_segments = any("segments" in answer for answer in answers.values())
    guess = batch / GUESS if has_segments else None
    written = predict.Written(folder.absolute() / "previews", batch / TASK, requests.MIN_SCORE, guess)
    with predict.exported(list(answers), written, predict.facts_of(name)) as export:
        for image, answer in answers.items():
            export(image, answer)
    return folder / BATCH


def newest(name: str) -> Path | None:
    """The request of a task that was made last."""
    made = sorted((FOLDER / name).glob(f"*/{BATCH}/{TASK}"), key=lambda file: file.stat().st_mtime_ns)
    return made[-1].parent if made else None


def uncertainty(answer: Mapping[str, Any]) -> float:
    """How little a model trusts its answer, 0 to 1: 1 - its best score; of boxes, the mean closeness to 0.5 of each.

    Of segments, 1 - the mean score of all pixels; where each label is decided by itself, the closeness to 0.5 of the
    least sure.
    """
    if "label" in answer:
        return 1.0 - float(answer["score"])
    if "segments" in answer:
        return 1.0 - sum(float(segment["share"] * segment["score"]) for segment in answer["segments"])
    if "labels" in answer:
        return max(1 - abs(2 * float(score) - 1) for score in answer["scores"].values())
    scores = [box["score"] for box in answer["boxes"] if box["score"] >= 0.1]
    return sum(1 - abs(2 * score - 1) for score in scores) / len(scores) if scores else 0.5


def _guess(answer: Mapping[str, Any]) -> dict[str, Any]:
    """An answer without the boxes that would only have to be deleted."""
    if "boxes" not in answer:
        return dict(answer)
    return {**answer, "boxes": [box for box in answer["boxes"] if box["score"] >= requests.MIN_SCORE]}
