"""Labelling requests: the inputs that a model is least sure of, with its answers as a first guess."""

import hashlib
import shutil
from pathlib import Path

from flows import predict
from flows.project import LOCAL_STATE
from stages.params.files import sha256_of
from stages.tracking import findings

FOLDER = LOCAL_STATE / "labelling"
BATCH, TASK, GUESS = "batch", "task.json", "first-guess"


def ask(name: str, inputs: Path, num: int) -> Path:
    """A folder with images and COCO of them, which ingest takes once a person has labelled it; previews lie beside it.

    Of a segmenter there are index PNGs too, in GUESS: corrected and renamed to masks/, they are `--format mask-png`.

    A request that is there already stays as it is: somebody may be at work on it.
    """
    answered = predict.predict(name, [inputs], predict.Written())
    found = [(file, findings.read(answer)) for file, answer in answered if "error" not in answer]
    asked = sorted(found, key=lambda row: (-row[1].uncertainty, str(row[0])))[:num]
    hashes = sorted(sha256_of(file) for file, _ in asked)
    folder = FOLDER / name / hashlib.sha256("".join(hashes).encode()).hexdigest()[:12]
    batch = (folder / BATCH).absolute()
    if (batch / TASK).is_file():
        return folder / BATCH
    (batch / "images").mkdir(parents=True, exist_ok=True)
    guesses = {}
    for number, (file, answer) in enumerate(asked, 1):  # images of two folders may have one name
        image = Path(shutil.copyfile(file, batch / "images" / f"{number:03}-{file.name}"))
        guesses[image] = answer.first_guess() | {"uncertainty": round(answer.uncertainty, 4)}
    masks = batch / GUESS if any(answer.form == "segments" for _, answer in asked) else None
    written = predict.Written(folder.absolute() / "previews", batch / TASK, findings.LIKELY_SCORE, masks)
    with predict.exported(list(guesses), written, predict.facts_of(name)) as export:
        for image, guess in guesses.items():
            export(image, guess)
    return folder / BATCH


def newest(name: str) -> Path | None:
    """The request of a task that was made last."""
    made = sorted((FOLDER / name).glob(f"*/{BATCH}/{TASK}"), key=lambda file: file.stat().st_mtime_ns)
    return made[-1].parent if made else None
