"""The stage `validate`: what it writes, when it stops, and what it says."""

import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from stages import validate as stage
from stages.data import formats
from stages.data.records import Blob, Box, Record, Source
from stages.ingest import ingest
from stages.tracking import process

PARAMS = "datasets:\n  cells: {validation: {min_samples: 5}}\n"


class Recorder:
    """Stands for the MLflow run."""

    def __init__(self):
        self.metrics, self.artifacts = {}, []

    def log_params(self, params):
        self.params = params

    def log_dataset(self, name, context):
        self.dataset = name

    def log_metrics(self, values):
        self.metrics |= values

    def log_artifact(self, path, folder=None):
        assert path.exists()
        self.artifacts.append(str(path))


@pytest.fixture
def run(monkeypatch):
    recorder = Recorder()

    @contextmanager
    def stage_run(stage, key):
        yield recorder

    monkeypatch.setattr(stage, "stage_run", stage_run)
    monkeypatch.setattr(process, "die_with_parent", lambda: None)
    monkeypatch.setattr(process, "limit_threads", lambda threads: None)
    return recorder


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with twelve images of one cell each in data/cells."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS)
    records = []
    for i in range(12):
        file = tmp_path / "source" / f"{i:02d}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (48, 64, 3), np.uint8)).save(file)
        boxes = (Box("RBC", (1.0, 2.0, 30.0 + i, 40.0)), Box("WBC", (5.0, 5.0, 9.0, 9.0)))
        records.append(Record(file.name, Blob(file), split=("train", "test")[i % 2], boxes=boxes))
    source = Source("detection", {"RBC": "red", "WBC": "white"}, lambda: iter(records))
    ingest(tmp_path / "data" / "cells", source, progress=False, workers=1)
    return tmp_path


def edit_index(change):
    """Change the rows of the only index file in place."""
    (file,) = Path("data/cells/index").glob("*.parquet")
    table = pq.read_table(file)
    rows = table.to_pylist()
    change({row["source"]: row for row in rows})
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), file)


def reach_out(rows):
    rows["03.png"]["objects"][0]["bbox_xyxy"] = [50.0, 10.0, 70.5, 30.0]


def test_sound_data_pass_and_are_logged(project, run, capsys):
    stage.validate("cells")
    report = json.loads(Path("reports/validate/cells.json").read_text())
    assert report["passed"] and report["samples"] == {"train": 6, "test": 6}
    assert report["boxes"]["RBC"] == {"train": 6, "val": 0, "test": 6}
    assert Path("reports/validate/cells.passed").read_text() == "passed\n"
    assert 'href="cells/validations/' in Path(".visionline/data-docs/index.html").read_text()
    assert run.metrics["critical"] == 0 and run.metrics == report["counts"]
    assert run.artifacts == ["reports/validate/cells.json", ".visionline/data-docs/cells/validations"]
    assert "each box lies inside its image" in capsys.readouterr().out


def test_a_critical_fault_ends_the_stage_with_one_line(project, run, capsys):
    stage.validate("cells")
    edit_index(reach_out)
    with pytest.raises(SystemExit) as ended:
        process.stage_main({"validate": stage.validate}, ["cells"])
    told = capsys.readouterr()
    assert ended.value.code == 1
    assert told.err == (
        "validate cells: 1 of 24 boxes reach outside their image, first: test 03.png RBC (50, 10, 70.5, 30) in 64x48; "
        "fix the annotations and ingest again, or raise datasets.cells.validation.box_tolerance_px\n"
    )
    assert run.metrics["critical"] == 1
    assert "1 critical" in Path(".visionline/data-docs/index.html").read_text()


def test_the_report_of_a_failure_outlives_the_outputs_and_goes_with_the_next_success(project, run):
    edit_index(reach_out)
    with pytest.raises(ValueError, match="boxes reach outside"):
        stage.validate("cells")
    kept = Path(".visionline/failed/validate-cells.json")
    assert kept.read_bytes() == Path("reports/validate/cells.json").read_bytes()
    assert not json.loads(kept.read_text())["passed"]
    assert not Path("reports/validate/cells.passed").exists()
    Path("params.yaml").write_text("datasets:\n  cells: {validation: {min_samples: 5, box_tolerance_px: 6.5}}\n")
    stage.validate("cells")
    assert not kept.exists() and Path("reports/validate/cells.passed").exists()


def test_a_warning_does_not_stop(project, run, capsys):
    edit_index(lambda rows: [row.update(defects=["box dropped"]) for row in rows.values()])
    stage.validate("cells")
    assert (
        "warning: 12 of 12 samples have defects, first: train 00.png (defects box dropped)" in capsys.readouterr().out
    )
    assert run.metrics["warnings"] == 1 and Path("reports/validate/cells.passed").exists()


def test_the_report_is_the_same_for_the_same_data(project, run):
    reports = []
    for _ in range(2):
        stage.validate("cells")
        reports.append(Path("reports/validate/cells.json").read_bytes())
    assert reports[0] == reports[1]
    assert str(project).encode() not in reports[0]


def test_bccd_passes_as_it_is_but_for_two_boxes_dropped_at_ingest(shared_data, tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("datasets: {bccd: {}}\n")
    ingest(tmp_path / "data" / "bccd", formats.open_source("voc", shared_data / "bccd"), progress=False, workers=1)
    stage.validate("bccd")
    report = json.loads(Path("reports/validate/bccd.json").read_text())
    checks = {check["name"]: check for check in report["checks"]}
    assert report["counts"] == {"passed": 19, "critical": 0, "warnings": 0, "skipped": 1}
    assert checks["inside the image"]["observed"] == "0 of 4886"
    assert [row["source"][-9:-4] for row in checks["no defects"]["offending"]] == ["00338", "00343"]
    assert {name: sum(counts.values()) for name, counts in report["boxes"].items()} == {
        "RBC": 4153,
        "WBC": 372,
        "Platelets": 361,
    }


def test_data_that_are_not_there_are_named(project, run):
    Path("params.yaml").write_text("datasets: {plants: {}}\n")
    with pytest.raises(FileNotFoundError, match="plants has no data"):
        stage.validate("plants")
    with pytest.raises(ValueError, match="no dataset 'cells'; there are: plants"):
        stage.validate("cells")


def test_camvid_passes_and_its_pixels_are_counted(shared_data, tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(
        "datasets: {streets: {validation: {max_near_duplicates: 1.0, max_imbalance: 200}}}\n"
    )
    ingest(
        tmp_path / "data" / "streets", formats.open_source("camvid", shared_data / "camvid"), progress=False, workers=1
    )
    stage.validate("streets")
    report = json.loads(Path("reports/validate/streets.json").read_text())
    assert (report["counts"]["critical"], report["counts"]["warnings"]) == (0, 0)
    assert report["images"]["Sky"] == {"train": 40, "val": 14, "test": 13}
    masks = (np.asarray(Image.open(file)) for file in sorted((shared_data / "camvid/trainannot").glob("*.png")))
    assert report["pixels"]["Bicyclist"]["train"] == sum(int((mask == 10).sum()) for mask in masks) > 0
