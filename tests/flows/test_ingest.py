"""`visionline ingest` and `generate`: commits that hold a version and nothing else."""

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from flows.ingest import _add_entries, _task_entry
from flows.project import UsageError
from stages.params import document

CLASSES = ("a", "b")


@pytest.fixture
def clone(bare: Any, tmp_path: Path) -> Any:
    """A repository without data, to change at will."""
    return bare.copy(tmp_path / "project")


@pytest.fixture(scope="session")
def drawn(bare: Any) -> Path:
    """Drawn pictures in three formats."""
    return bare.root / ".visionline/shapes"


def source(drawn: Path, folder: Path, numbers: range) -> Path:
    """An ImageFolder of two classes with some of the drawn pictures."""
    pictures = sorted((drawn / "imagefolder").rglob("*.png")) or sorted((drawn / "imagefolder").rglob("*.jpg"))
    for number in numbers:
        for i, name in enumerate(CLASSES):
            (folder / name).mkdir(parents=True, exist_ok=True)
            picture = pictures[2 * number + i]
            shutil.copy(picture, folder / name / f"{number}{picture.suffix}")
    return folder


def ingest(clone: Any, folder: Path, *options: str) -> Any:
    return clone.visionline("ingest", "things", str(folder), "--format", "imagefolder", *options)


def test_ingest_commits_the_pointer_and_leaves_the_rest_of_the_tree(clone: Any, drawn: Path, tmp_path: Path) -> None:
    (clone.root / "staged.txt").write_text("mine\n")
    clone.git("add", "staged.txt")
    with (clone.root / "Makefile").open("a") as file:
        file.write("# edited\n")
    folder = source(drawn, tmp_path / "photos", range(8))
    before = clone.git("rev-parse", "HEAD")
    split = "train=0.6,val=0.2,test=0.2"

    first = ingest(clone, folder, "--split", split)
    assert first.returncode == 0, first.stderr
    assert clone.commits(before) == [clone.git("log", "-1", "--format=%s")]
    assert sorted(clone.files_of()) == ["data/things.dvc", "params.yaml"]
    assert clone.git("log", "-1", "--format=%an") == "visionline"  # there is no identity of the user's
    assert clone.git("status", "--porcelain").splitlines() == ["M Makefile", "A  staged.txt"]
    assert "# comments survive what commands change" in (clone.root / "params.yaml").read_text()

    again = ingest(clone, folder, "--split", split)
    assert "nothing new, nothing committed" in again.stdout
    assert len(clone.commits(before)) == 1

    source(drawn, folder, range(8, 10))
    with_task = ingest(clone, folder, "--split", split, "--task", "classification", "--json")
    report = json.loads(with_task.stdout[with_task.stdout.index("{") :])
    assert (report["added"], report["unchanged"]) == (4, 16)
    assert report["params_added"] == ["tasks.things"]
    assert clone.yaml("params.yaml")["tasks"]["things"]["kind"] == "classification"
    assert sorted(clone.files_of()) == ["data/things.dvc", "params.yaml"]


def test_a_detection_task_from_ingest_is_one_the_pipeline_takes(clone: Any, drawn: Path) -> None:
    printed = clone.ok("ingest", "cells", str(drawn / "coco"), "--format", "coco", "--task", "detection")
    assert "added datasets.cells to params.yaml" in printed
    assert "added tasks.cells to params.yaml" in printed
    stages = {row["name"] for row in json.loads(clone.ok("status", "--json"))["stages"]}
    assert {"validate@cells", "finetune@cells", "control@cells", "evaluate@cells"} <= stages


def test_a_truncated_picture_is_listed_and_the_rest_goes_on_unless_strict(
    clone: Any, drawn: Path, tmp_path: Path
) -> None:
    folder = source(drawn, tmp_path / "photos", range(4))
    broken = next((folder / "a").iterdir())
    jpeg = next((drawn / "imagenet").rglob("*.JPEG")).read_bytes()
    (folder / "a/broken.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    before = clone.git("rev-parse", "HEAD")

    strict = ingest(clone, folder, "--strict")
    assert strict.returncode == 1
    assert len(strict.stderr.strip().splitlines()) == 1
    assert "broken.jpg" in strict.stderr
    assert clone.git("rev-parse", "HEAD") == before
    assert not (clone.root / "data/things").exists()
    assert not (clone.root / "data/things.dvc").exists()

    taken = ingest(clone, folder)
    assert taken.returncode == 0
    assert "rejected a/broken.jpg" in taken.stdout.replace(str(folder) + "/", "")
    report = json.loads((clone.root / ".visionline/ingest/things.json").read_text())
    assert [entry["path"].endswith("broken.jpg") for entry in report["rejected"]] == [True]
    assert report["added"] == 8
    assert broken.exists()


def test_branches_that_both_add_data_merge(clone: Any, drawn: Path, tmp_path: Path) -> None:
    split = ("--split", "train")
    assert ingest(clone, source(drawn, tmp_path / "one", range(3)), *split).returncode == 0
    clone.git("switch", "--quiet", "--create", "other")
    assert ingest(clone, source(drawn, tmp_path / "two", range(3, 6)), *split).returncode == 0
    clone.git("switch", "--quiet", "main")
    clone.dvc("checkout", "data/things.dvc")
    assert ingest(clone, source(drawn, tmp_path / "three", range(6, 10)), *split).returncode == 0
    clone.git("merge", "--quiet", "--no-edit", "other")
    clone.dvc("checkout", "data/things.dvc")
    # All is there already: what one branch, the other and their ancestor added.
    every = source(drawn, tmp_path / "all", range(3))
    for name in ("two", "three"):
        shutil.copytree(tmp_path / name, every, dirs_exist_ok=True)
    done = ingest(clone, every, *split, "--json")
    report = json.loads(done.stdout[done.stdout.index("{") :])
    assert (report["added"], report["unchanged"]) == (0, 20)


def test_mistakes_of_ingest_are_wrong_use(clone: Any, drawn: Path, tmp_path: Path) -> None:
    cases = {
        ("things", str(tmp_path / "nowhere"), "--format", "voc"): "nowhere",
        ("things", str(drawn), "--format", "csv"): "imagefolder",
        ("Bad_Name", str(drawn), "--format", "voc"): "lower-case",
        ("things", str(drawn / "coco"), "--format", "coco", "--task", "poetry"): "detection",
        ("things", str(drawn / "coco"), "--format", "coco", "--split", "half"): "train",
    }
    for arguments, told in cases.items():
        done = clone.visionline("ingest", *arguments)
        assert done.returncode == 2, (arguments, done.stdout, done.stderr)
        assert told in done.stderr
    assert clone.git("status", "--porcelain") == ""


def test_generate_draws_nothing_twice(with_data: Any) -> None:
    head = with_data.git("rev-parse", "HEAD")
    assert "there already" in with_data.ok("generate")
    assert with_data.git("rev-parse", "HEAD") == head


@pytest.mark.parametrize("kind", document.task_kinds())
def test_every_kind_gets_an_entry_that_is_valid_beside_another_of_its_dataset(kind: str, tmp_path: Path) -> None:
    section = document.task_section(_task_entry("cells", kind, "net"))
    assert section.kind == kind
    backbone = {"dataset": "cells", "arch": "resnet18", "stem": "imagenet", "objective": "supervised", "image_px": 64}
    backbone["training"] = {"steps": 1}
    taken = {**_task_entry("other", kind, "net")}
    content = {"datasets": {"cells": {}, "other": {}}, "backbones": {"net": backbone}, "tasks": {"cells": taken}}
    (tmp_path / "params.yaml").write_text(json.dumps(content))
    with contextlib.chdir(tmp_path):
        _add_entries("cells", kind)
        assert document.load().tasks[f"cells-{kind.replace('_', '-')}"].dataset == "cells"


def test_a_new_task_gets_the_first_backbone_that_can_carry_it(tmp_path: Path) -> None:
    made = {"dataset": "cells", "arch": "resnet18", "objective": "supervised", "training": {"steps": 1}}
    backbones = {"tiny": {**made, "stem": "small"}, "usual": {**made, "stem": "imagenet"}}
    content: dict[str, Any] = {"datasets": {"cells": {}}, "backbones": backbones, "tasks": {}}
    with contextlib.chdir(tmp_path):
        Path("params.yaml").write_text(json.dumps(content))
        _add_entries("cells", "detection")
        assert document.load().tasks["cells"].backbone == "usual"
        del backbones["usual"]
        Path("params.yaml").write_text(json.dumps(content))
        with pytest.raises(UsageError, match=r"no backbone .* \(tiny: faster_rcnn.anchor_sizes_px: 5 levels"):
            _add_entries("cells", "detection")
