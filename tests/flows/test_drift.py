"""Recent inputs of a model: like its data they change nothing, unlike it they ask for labels, which train it anew."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageEnhance, ImageFilter

pytestmark = pytest.mark.slow

# What the deployment calls after a drift; to train takes minutes, so what would run is only told.
RETRAIN = """
from flows import project, retrain
project.enter()
retrain.runs.run = lambda due, *_: {"stale": list(due), "promotion": []}
print(retrain.markdown(retrain.retrain(task=%r)))
"""


def draw(clone: Any, folder: Path, *arguments: str) -> list[Path]:
    """Pictures of the kind that the project was made with, which it never saw."""
    done = clone.stage("generate", str(folder), "--seed", "7", *arguments)
    assert done.returncode == 0, done.stderr
    return sorted(folder.rglob("*.png")) + sorted(folder.rglob("*.jpg"))


def spoil(files: list[Path], folder: Path) -> Path:
    """The pictures as a camera with a dirty lens in the dusk would take them; two of them have one name."""
    for number, file in enumerate(files):
        place = folder / f"camera-{number % 2}" / f"{number // 2}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(file) as image:
            blurred = image.convert("RGB").filter(ImageFilter.GaussianBlur(3))
            ImageEnhance.Brightness(blurred).enhance(0.2).save(place)
    return folder


def labelled(batch: Path, correct: Any) -> None:
    """What a person makes of a request: each image's annotations, and the word that they are labels now."""
    task = json.loads((batch / "task.json").read_text())
    numbers = {category["name"]: category["id"] for category in task["categories"]}
    entries = [{"image_id": i["id"], **entry} for i in task["images"] for entry in correct(i, numbers)]
    task["annotations"] = [{"id": number, **entry} for number, entry in enumerate(entries, 1)]
    (batch / "task.json").write_text(json.dumps({**task, "info": {"labelled": True}}))


def retrained(clone: Any, task: str) -> str:
    done = clone.run(sys.executable, "-c", RETRAIN % task)
    assert done.returncode == 0, done.stderr
    return done.stdout


def drifted(clone: Any, task: str, folder: Path) -> dict[str, Any]:
    return json.loads(clone.ok("drift", task, "--inputs", str(folder), "--json"))


def test_a_drift_of_a_classifier_asks_for_labels_and_any_of_them_trains(clone: Any, tmp_path: Path) -> None:
    script = (
        "from stages.params import edit; edit.set_values({'retraining': '{min_new: 1000, drift: {min_inputs: 20}}'})"
    )
    assert clone.run(sys.executable, "-c", script).returncode == 0
    files = draw(
        clone, tmp_path / "new", "--only", "imagefolder", "--imagefolder", "1", "1", "2", "--imagefolder-px", "32", "40"
    )
    told = drifted(clone, "patterns", tmp_path / "new")
    assert (told["is_drifted"], told["num_inputs"], told["num_reference"]) == (False, len(files), 32)
    assert set(told["tests"]) == {"label", "score", "features"}
    assert not (clone.root / ".visionline/labelling").exists()
    told = drifted(clone, "patterns", spoil(files, tmp_path / "dusk"))
    assert told["is_drifted"] and told["tests"]["features"]["is_alarm"]

    batch = clone.root / told["labelling"]
    begun = json.loads((batch / "task.json").read_text())
    assert len(begun["images"]) == len(begun["annotations"]) == len(files)
    classes = clone.yaml("data/shapes-patterns/dataset.yaml")["classes"]
    assert [category["name"] for category in begun["categories"]] == [entry["name"] for entry in classes]
    unsure = [image["uncertainty"] for image in begun["images"]]
    assert unsure == sorted(unsure, reverse=True) and 0 < unsure[-1] < unsure[0] < 1
    names = {image["file_name"] for image in begun["images"]}
    assert names == {file.name for file in (batch / "images").iterdir()}
    previews = list((batch.parent / "previews").iterdir())
    assert {file.name for file in previews} == names
    assert min(max(Image.open(file).size) for file in previews) >= 640

    assert f"no labelled images are new: label the request at {batch.relative_to(clone.root)}" in retrained(
        clone, "patterns"
    )
    refused = clone.visionline("ingest", "shapes-patterns", str(batch), "--format", "coco", "--split", "train")
    assert (refused.returncode, "holds answers of a model" in refused.stderr) == (1, True), refused.stderr

    name = classes[3]["name"]
    labelled(batch, lambda image, numbers: [{"category_id": numbers[name]}])
    clone.ok("ingest", "shapes-patterns", str(batch), "--format", "coco", "--split", "train")
    report = json.loads((clone.root / ".visionline/ingest/shapes-patterns.json").read_text())
    assert (report["added"], report["classes"], report["rejected"]) == (len(files), {name: len(files)}, [])
    said = retrained(clone, "patterns")
    assert f"patterns: {len(files)} new samples" in said and "trained: patterns" in said


@pytest.mark.long
def test_a_drift_of_a_detector_asks_for_boxes(clone: Any, tmp_path: Path) -> None:
    script = (
        "from stages.params import edit; edit.set_values({'retraining': '{drift: {min_inputs: 20, num_asked: 5}}'})"
    )
    assert clone.run(sys.executable, "-c", script).returncode == 0
    files = draw(clone, tmp_path / "new", "--only", "coco", "--scenes", "10", "5", "5", "--scene-size", "64", "96")
    told = drifted(clone, "scenes", tmp_path / "new")
    assert (told["is_drifted"], told["num_inputs"], set(told["tests"])) == (
        False, 20, {"label", "score", "boxes", "features"},
    )  # fmt: skip
    told = drifted(clone, "scenes", spoil(files, tmp_path / "dusk"))
    assert told["is_drifted"]
    batch = clone.root / told["labelling"]
    begun = json.loads((batch / "task.json").read_text())
    assert len(begun["images"]) == len(list((batch.parent / "previews").iterdir())) == 5
    assert {(image["width"], image["height"]) for image in begun["images"]} == {(96, 64)}
    assert all(entry["score"] >= 0.3 and len(entry["bbox"]) == 4 for entry in begun["annotations"])
    name = begun["categories"][0]["name"]
    labelled(
        batch,
        lambda image, numbers: [{"category_id": numbers[name], "bbox": [4, 8, 20, 16], "area": 320, "iscrowd": 0}],
    )
    clone.ok("ingest", "shapes-scenes", str(batch), "--format", "coco", "--split", "train")
    report = json.loads((clone.root / ".visionline/ingest/shapes-scenes.json").read_text())
    assert (report["added"], report["classes"], report["rejected"]) == (5, {name: 5}, [])
    assert "trained: scenes" in retrained(clone, "scenes")
