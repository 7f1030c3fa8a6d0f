"""Requests for labels: what is asked for, in which order, and that the work of a person is kept."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flows import labelling
from stages.data import formats, run_lengths

SCORES = {"a/1.png": 0.9, "b/1.png": 0.4, "b/2.png": 0.6}


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three images, two of one name, and what a model would say of them; a fourth can't be read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    folder = tmp_path / "recent"
    for number, name in enumerate(SCORES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30 + number, 20)).save(folder / name)

    def predict(address: str, inputs: Any, written: Any) -> Any:
        yield folder / "broken.png", {"error": "not an image"}
        for name, score in SCORES.items():
            sure = {"label": "dust", "score": score, "box_xyxy": [1, 2, 11, 12]}
            yield folder / name, {"boxes": [sure, sure | {"score": 0.2}]}

    monkeypatch.setattr(labelling.predict, "predict", predict)
    monkeypatch.setattr(labelling.predict, "facts_of", lambda address: {"classes": ["cell", "dust"]})
    return folder


def test_the_least_sure_come_first_with_the_boxes_that_are_worth_correcting(inputs: Path) -> None:
    batch = labelling.ask("cells", inputs, 2)
    assert batch == labelling.newest("cells")
    task = json.loads((batch / "task.json").read_text())
    assert [image["file_name"] for image in task["images"]] == ["001-1.png", "002-2.png"]  # b/1, b/2
    assert [image["width"] for image in task["images"]] == [31, 32]
    assert [image["uncertainty"] for image in task["images"]] == [0.6, 0.6]
    assert [(entry["bbox"], entry["score"]) for entry in task["annotations"]] == [
        ([1.0, 2.0, 10.0, 10.0], 0.4),
        ([1.0, 2.0, 10.0, 10.0], 0.6),
    ]
    assert [category["name"] for category in task["categories"]] == ["cell", "dust"]
    for folder in (batch / "images", batch.parent / "previews"):
        assert sorted(file.name for file in folder.iterdir()) == ["001-1.png", "002-2.png"]


def test_asked_again_the_work_of_a_person_is_kept_and_other_images_are_another_request(inputs: Path) -> None:
    batch = labelling.ask("cells", inputs, 3)
    (batch / "task.json").write_text("begun")
    assert labelling.ask("cells", inputs, 3) == batch
    assert (batch / "task.json").read_text() == "begun"
    Image.new("RGB", (50, 50)).save(inputs / "a/1.png")  # a camera writes the same name again
    assert labelling.ask("cells", inputs, 3) != batch


def test_of_segments_there_are_index_pngs_to_correct(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    Image.new("RGB", (30, 20)).save(tmp_path / "1.png")
    whole = run_lengths.encoded(np.ones((20, 30), bool))
    segment = {"label": "road", "score": 0.75, "share": 1.0, "segmentation": whole}
    answer = {"height": 20, "width": 30, "segments": [segment]}
    monkeypatch.setattr(labelling.predict, "predict", lambda *_: iter([(tmp_path / "1.png", answer)]))
    monkeypatch.setattr(labelling.predict, "facts_of", lambda address: {"classes": ["sky", "road"]})
    batch = labelling.ask("streets", tmp_path, 5)
    assert json.loads((batch / "task.json").read_text())["images"][0]["uncertainty"] == 0.25
    (batch / "first-guess").rename(batch / "masks")  # as a person does who has corrected them
    source = formats.open_source("mask-png", batch)
    (record,) = source.records()
    assert list(source.classes) == ["sky", "road"] and record.path == "images/001-1.png"
    assert (np.asarray(Image.open(record.mask.image.file)) == 1).all()
