"""`visionline trace`: lineage as a user asks for it, also where history was lost."""

import io
import json
import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image


@pytest.fixture
def clone(ran: Any, tmp_path: Path) -> Any:
    """A copy of the clone that has run, to change at will; nothing here needs a Prefect server."""
    return ran.clone.copy(tmp_path / "project")


def trace(clone: Any, *arguments: str) -> Any:
    return json.loads(clone.ok("trace", *arguments, "--json"))


def facts(document: Any, kind: str) -> dict[str, Any]:
    return {node["title"].split(" ")[0]: node["facts"] for node in document["nodes"] if node["kind"] == kind}


def first_image(clone: Any, dataset: str, suffix: str) -> bytes:
    """The bytes of an image of a dataset."""
    with tarfile.open(next((clone.root / f"data/{dataset}/shards").glob("*.tar"))) as tar:
        member = next(m for m in tar if m.name.endswith(suffix))
        file = tar.extractfile(member)
        assert file is not None
        return file.read()


def test_a_model_leads_to_all_that_made_it(ran: Any) -> None:
    clone = ran.clone
    document = trace(clone, "model:patterns@champion")
    runs, data = facts(document, "run"), facts(document, "dataset")
    assert set(runs) == {
        "finetune@patterns", "pretrain@shapes-resnet18", "evaluate@patterns", "control@patterns",
        "validate@shapes-patterns", "validate@shapes-imagenet",
    }  # fmt: skip
    assert set(data) == {"data/shapes-patterns", "data/shapes-imagenet"}
    assert document["notes"] == []
    finetune = runs["finetune@patterns"]
    assert finetune["parameters"]["training.steps"] == "24"
    assert len(finetune["environment lock"]) == 64
    assert len(finetune["Prefect flow run"]) == 36
    assert clone.git("cat-file", "-t", finetune["snapshot commit"]) == "commit"
    backbone = data["data/shapes-imagenet"]
    assert backbone["hash"] == clone.yaml("data/shapes-imagenet.dvc")["outs"][0]["md5"]
    assert backbone["samples"] == {"train": 72, "val": 24}
    assert backbone["validation"]["critical"] == 0
    version = facts(document, "version")["patterns"]
    assert {"champion", "challenger"} == {period["alias"] for period in version["held"]}
    assert all(period["from"] for period in version["held"] if period["alias"] == "champion")


def test_the_command_that_brings_data_back_does(clone: Any) -> None:
    data = facts(trace(clone, "model:scenes"), "dataset")["data/shapes-scenes"]
    shutil.rmtree(clone.root / "data/shapes-scenes")
    (clone.root / "data/shapes-scenes.dvc").unlink()
    done = clone.run("bash", "-c", data["brings it back"])
    assert done.returncode == 0, done.stderr
    assert clone.yaml("data/shapes-scenes.dvc")["outs"][0]["md5"] == data["hash"]
    assert list((clone.root / "data/shapes-scenes/shards").glob("*.tar"))


def test_data_lead_to_all_that_was_built_on_them(ran: Any) -> None:
    document = trace(ran.clone, "data:shapes-imagenet")
    assert set(facts(document, "version")) == {"patterns", "scenes"}
    assert document["live"] == ["patterns@challenger", "patterns@champion", "scenes@challenger", "scenes@champion"]
    assert document["changes"] is None


def test_an_image_leads_to_the_models_that_saw_it_also_when_it_was_encoded_anew(ran: Any, tmp_path: Path) -> None:
    clone = ran.clone
    data = first_image(clone, "shapes-imagenet", ".jpg")
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(data)
    document = trace(clone, f"image:{photo}")
    (sighting,) = document["sightings"]
    assert sighting["dataset"] == "shapes-imagenet"
    assert sighting["remains"] == {"working tree": True, "cache": True, "remotes": []}
    models = {model["model"]: model for model in document["models"]}
    expected = "trained on" if sighting["split"] == "train" else "validated on"
    assert models["scenes"]["how"] == [f"{expected} through models/shapes-resnet18"]

    copy = io.BytesIO()
    Image.open(io.BytesIO(data)).save(copy, "PNG")
    photo.write_bytes(copy.getvalue())
    assert trace(clone, f"image:{photo}")["sightings"] == []
    found = trace(clone, f"image:{photo}", "--similar", "4")["sightings"]
    assert sighting["sha256"] in {other["sha256"] for other in found}


def test_what_history_lost_is_said_and_the_rest_is_told(clone: Any) -> None:
    # The history is squashed away, the snapshots of runs too; a dataset is deleted, a task renamed.
    clone.git("checkout", "--quiet", "--orphan", "squashed")
    clone.git("rm", "--quiet", "--cached", "data/shapes-patterns.dvc")
    (clone.root / "data/shapes-patterns.dvc").unlink()
    params = (clone.root / "params.yaml").read_text().replace("\n  scenes:\n", "\n  landscapes:\n")
    (clone.root / "params.yaml").write_text(params)
    clone.git("add", "params.yaml")
    clone.git("commit", "--quiet", "--message", "all")
    clone.git("branch", "--quiet", "--delete", "--force", "main")
    for ref in clone.git("for-each-ref", "--format=%(refname)", "refs/visionline").splitlines():
        clone.git("update-ref", "-d", ref)
    clone.git("reflog", "expire", "--expire=now", "--all")
    clone.git("gc", "--quiet", "--prune=now")
    digest = clone.sql("SELECT value FROM model_version_tags WHERE name = 'patterns' AND key LIKE '%dataset_hash'")[0][
        0
    ]

    model = trace(clone, "model:patterns")
    data = facts(model, "dataset")["data/shapes-patterns"]
    assert data["commit"] is None
    assert data["samples"]["train"]
    assert any(f"no commit that git has holds version {digest}" in note for note in model["notes"])
    assert any("the snapshot of" in note for note in model["notes"])
    assert any("data/shapes-patterns.dvc is not here" in note for note in trace(clone, "data:shapes-patterns")["notes"])
    assert any("scenes is no task of params.yaml" in note for note in trace(clone, "model:scenes")["notes"])
    done = clone.run("bash", "-c", data["brings it back"])
    assert done.returncode == 0, done.stderr

    listing = clone.root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    listing.unlink()
    (clone.root / "data/shapes-patterns.dvc").unlink()
    told = clone.ok("trace", "model:patterns")
    assert f"not found: version {digest} of shapes-patterns can't be brought back" in told


def test_failed_and_deleted_runs_are_no_ancestors(clone: Any) -> None:
    run_id = facts(trace(clone, "model:patterns"), "run")["pretrain@shapes-resnet18"]["MLflow run"]
    with sqlite3.connect(clone.root / ".visionline/mlflow.db") as database:
        database.execute(f"UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = '{run_id}'")
    document = trace(clone, "model:patterns")
    assert "pretrain@shapes-resnet18" not in facts(document, "run")
    assert any("made models/shapes-resnet18" in note for note in document["notes"])


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("patterns", "model:NAME@ALIAS"),
        ("model:", "model:NAME@ALIAS"),
        ("model:nobody", "registered are: patterns, scenes"),
        ("model:patterns@gold", "patterns/1"),
        ("data:nothing", "shapes-imagenet"),
        ("data:shapes-scenes@abcdefabcdef", "no commit"),
        ("image:missing.jpg", "no such file"),
    ],
)
def test_mistakes_are_wrong_use(ran: Any, asked: str, told: str) -> None:
    done = ran.clone.visionline("trace", asked)
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1), done.stderr
    assert told in done.stderr


def test_a_browser_opens_the_page_without_errors_or_requests(
    ran: Any, tmp_path: Path, browse: Callable[[Path], str]
) -> None:
    page = tmp_path / "lineage.html"
    ran.clone.ok("trace", "model:patterns", "--html", str(page))
    document = browse(page)
    assert document.count('class="box ') == 11
    for title in ("pretrain@shapes-resnet18", "patterns@champion", "finetune@patterns"):
        assert title in document
