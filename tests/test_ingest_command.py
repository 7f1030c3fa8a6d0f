"""Ingest from the command line: what it says, what it writes down, and how it ends."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages import ingest as stage
from stages.data.dataset import Dataset, Description
from stages.data.records import Blob, Record, Rejected, Source
from stages.ingest import main

ROOT = Path(__file__).parents[1]
CLASSES = {"cat": "house cat", "dog": "dog"}


@pytest.fixture
def images(tmp_path):
    """30 small JPEGs."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(30):
        pixels = np.random.default_rng(number).integers(0, 256, (24, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.jpg")
    return folder


def source(images, items=(), **changes):
    """Even numbers are cats, odd ones dogs."""
    records = [
        Record(file.name, Blob(file), labels=(("cat", "dog")[int(file.stem) % 2],), **changes)
        for file in sorted(images.iterdir())
    ]
    return Source("classification", CLASSES, lambda: iter([*records, *items]))


@pytest.fixture
def command(tmp_path, images, monkeypatch):
    """main() in an empty repository, for a stand-in of a format."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stage.formats, "names", lambda: ["fake"])
    opened = {"source": source(images), "asked": None}

    def open_source(*asked):
        opened["asked"] = asked
        return opened["source"]

    monkeypatch.setattr(stage.formats, "open_source", open_source)
    return lambda *args, **changes: (opened.update(changes), main(["pets", "images", "--format", "fake", *args]))[1]


def test_command_says_what_it_did(command, images, capsys, tmp_path):
    rejected = [Rejected(f"{i}.png", "no image") for i in range(12)]
    noted = replace(source(images, split="val", items=rejected), notes=("10 images are in no annotation file",))
    assert command("--report", "reports/x/ingest.json", "--licence", "CC0", source=noted) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "rejected 0.png: no image" and lines[10] == "... and 2 more rejected"
    assert lines[11] == "note: 10 images are in no annotation file"
    assert lines[-1] == "pets: 30 added, 0 unchanged, 0 relabelled, 12 rejected (val 30)"
    report = json.loads((tmp_path / "reports/x/ingest.json").read_text())
    assert report["added"] == 30 and len(report["rejected"]) == 12
    assert report["rejected"][0] == {"path": "0.png", "reason": "no image"}
    assert report["splits"] == {"val": 30} and report["classes"] == {"cat": 15, "dog": 15}
    assert Description.read(tmp_path / "data" / "pets").licence == "CC0"


def test_command_says_what_came_in_with_a_defect_and_only_then(command, images, capsys, tmp_path):
    worn = source(images, defects=("object 2 has a box without area: dropped",), split="train")
    assert command("--report", "report.json", source=worn) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "taken with a defect, 00.jpg: object 2 has a box without area: dropped"
    assert lines[5:] == ["... and 25 more defects", "pets: 30 added, 0 unchanged, 0 relabelled, 0 rejected (train 30)"]
    told = json.loads((tmp_path / "report.json").read_text())["defects"]
    assert len(told) == 30 and told[7] == {"path": "07.jpg", "defect": "object 2 has a box without area: dropped"}
    assert command("--report", "report.json", source=worn) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert json.loads((tmp_path / "report.json").read_text())["defects"] == []


def test_failing_work_is_one_line_and_exit_code_1(command, images, capsys, tmp_path):
    assert command("--strict", source=source(images, items=[Rejected("x.jpg", "no annotation")])) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith("ingest pets: x.jpg: no annotation")
    assert not (tmp_path / "data" / "pets").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["Pets", "images", "--format", "fake"],
        ["pets", "nowhere", "--format", "fake"],
        ["pets", "images"],
        ["pets", "images", "--format", "other"],
        ["pets", "images", "--format", "fake", "--split", "train=2"],
        ["pets", "images", "--format", "fake", "--images", "nowhere"],
    ],
)
def test_wrong_use_is_exit_code_2(command, arguments, capsys):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_real_source_from_the_command_line(tmp_path, shared_data):
    arguments = [sys.executable, "-m", "stages.ingest", "bccd", shared_data / "bccd", "--format", "voc"]
    run = subprocess.run(arguments, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True)
    assert run.returncode == 0, run.stderr
    dataset = Dataset(tmp_path / "data" / "bccd")
    assert dataset.task == "detection" and set(dataset.classes) == {"RBC", "WBC", "Platelets"}
    assert dataset.splits == {"train": 205, "val": 87, "test": 72}
    assert sum(len(row) for row in dataset.table(columns=["objects"])["objects"].to_pylist()) > 4000
