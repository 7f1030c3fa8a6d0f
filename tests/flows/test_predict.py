"""Predict on what has run: the numbers of evaluate, pictures, COCO results, what can't be read; a foreign client."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from flows import predict, told
from flows.project import UsageError
from stages.tracking import registry

CLIENT = Path(__file__).with_name("outside_client.py")


@pytest.mark.slow
def test_labels_are_those_of_evaluate_and_of_a_client_outside(evaluated: Any, tmp_path: Path) -> None:
    """The client has MLflow, an alias and the model's requirements; nothing of this repository."""
    clone, files, expected = evaluated.clone, evaluated.files("patterns"), evaluated.scores()
    assert files.keys() == expected.keys()
    predicted = json.loads(clone.ok("predict", "patterns@champion", *map(str, files.values()), "--json"))
    assert list(predicted) == [str(file) for file in files.values()]

    ((source,),) = clone.sql("SELECT source FROM model_versions WHERE name = 'patterns'")
    logged = clone.root / ".visionline/mlartifacts/models" / source.rpartition("/")[2] / "artifacts"
    settings = {"MLFLOW_TRACKING_URI": f"sqlite:///{clone.root}/.visionline/mlflow.db", "MLFLOW_DISABLE_TELEMETRY": "1"}
    done = clone.run(
        "env", "-C", str(tmp_path), sys.executable, "-I", str(CLIENT), str(logged / "requirements.txt"), "patterns",
        "champion", *map(str, files.values()), **settings,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outside = json.loads(done.stdout)
    assert outside["version"] == 1
    assert all(Path(file).is_relative_to(logged / "code") for file in outside["code"])
    for i, (key, file) in enumerate(files.items()):
        scores = predicted[str(file)]["scores"]
        assert scores == pytest.approx(expected[key], abs=2e-6)
        assert outside["answers"][i]["scores"] == pytest.approx(scores, abs=1e-6)
        assert predicted[str(file)]["label"] == max(scores, key=scores.get)


@pytest.mark.slow
def test_boxes_are_those_of_evaluate_also_in_coco_and_drawn_and_a_broken_file_stops_nothing(
    evaluated: Any, tmp_path: Path
) -> None:
    clone, files, expected = evaluated.clone, evaluated.files("scenes"), evaluated.boxes()
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for number, (key, file) in enumerate(files.items()):
        shutil.copy(file, (folder / "more" if number % 2 else folder) / f"{key}{file.suffix}")
    (folder / "broken.png").write_bytes(b"no picture")
    done = clone.visionline(
        "predict", "scenes", f"{folder}/**/*.*", "--json", "--out", str(folder / "drawn"), "--coco",
        str(tmp_path / "found.json"), "--min-score", "0",
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith(f"visionline: {folder}/broken.png: not an image")
    assert done.stderr.count("\n") == 1
    answers = json.loads(done.stdout)
    assert "error" in answers.pop(f"{folder}/broken.png")
    assert {Path(name).stem for name in answers} == files.keys()

    coco = json.loads((tmp_path / "found.json").read_text())
    names = [category["name"] for category in coco["categories"]]
    assert {image["file_name"] for image in coco["images"]} == {
        Path(name).relative_to(folder).as_posix() for name in answers
    }
    for image in coco["images"]:
        with Image.open(folder / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"])
        rows = [row for row in coco["annotations"] if row["image_id"] == image["id"]]
        told = answers[str(folder / image["file_name"])]["boxes"]
        known = expected[Path(image["file_name"]).stem]
        assert len(rows) == len(told) == len(known) > 0
        for row, box, (category, score, bbox) in zip(rows, told, known, strict=True):
            assert (row["category_id"], names[row["category_id"] - 1]) == (category, box["label"])
            assert row["score"] == box["score"] == pytest.approx(score, abs=1e-5)
            assert row["bbox"] == pytest.approx(bbox, abs=1e-2)
            assert box["box_xyxy"][:2] == row["bbox"][:2]

    drawn = {file.relative_to(folder / "drawn").as_posix() for file in (folder / "drawn").rglob("*") if file.is_file()}
    assert drawn == {Path(image["file_name"]).with_suffix(".png").as_posix() for image in coco["images"]}
    with Image.open(folder / "drawn" / next(iter(drawn))) as picture:
        assert max(picture.size) == 640


@pytest.mark.slow
def test_coco_results_of_labels_are_refused(evaluated: Any, tmp_path: Path) -> None:
    file = next(iter(evaluated.files("patterns").values()))
    done = evaluated.clone.visionline("predict", "patterns", str(file), "--coco", str(tmp_path / "found.json"))
    assert (done.returncode, done.stderr.count("\n"), "--json" in done.stderr) == (2, 1, True)
    assert list(tmp_path.iterdir()) == []


def test_files_folders_and_patterns_name_each_image_once(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "a/b/2.PNG", "a/b/notes.txt", "c[1]/3.jpg", "drawn/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def names(*inputs: str, drawn: Path | None = None) -> list[str]:
        found = predict._files([tmp_path / name for name in inputs], predict.Written(drawn))
        return [file.relative_to(tmp_path).as_posix() for file in found]

    assert names("a/b/2.PNG", "a") == ["a/b/2.PNG", "a/1.jpg"]
    (tmp_path / "empty").mkdir()
    assert names("**") == ["a/1.jpg", "a/b/2.PNG", "c[1]/3.jpg", "drawn/1.png", "a/b/notes.txt"]
    assert names("*/1.*") == ["a/1.jpg", "drawn/1.png"]
    assert names("c[1]", "c[1]/3.jpg") == ["c[1]/3.jpg"]
    assert names(".", drawn=tmp_path / "drawn") == ["a/1.jpg", "a/b/2.PNG", "c[1]/3.jpg"]
    assert names("a/b/notes.txt") == ["a/b/notes.txt"]  # what a person names is tried
    for nothing in ("a/*.gif", "e", "empty"):
        with pytest.raises(UsageError, match="no such image"):
            names(nothing)


def test_pictures_never_replace_images_nor_each_other(tmp_path: Path) -> None:
    files = [tmp_path / "1.jpg", tmp_path / "1.png", tmp_path / "2.jpg"]
    places = predict._pictures(files, tmp_path / "out")
    assert [place.name for place in places.values()] == ["1.jpg.png", "1.png.png", "2.png"]
    with pytest.raises(UsageError, match="another folder"):
        predict._pictures([tmp_path / "1.png"], tmp_path)


def test_where_results_cannot_go_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for written, word in (
        (predict.Written(coco=tmp_path / "nowhere/found.json"), "--coco"),
        (predict.Written(coco=tmp_path), "--coco"),
        (predict.Written(tmp_path / "file"), "--out"),
    ):
        with pytest.raises(UsageError, match=word):
            next(predict.predict("cells", [tmp_path], written))


def test_a_kind_that_only_a_newer_visionline_knows_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "model_at", lambda address: SimpleNamespace(name="cells", version="3"))
    monkeypatch.setattr(registry, "facts", lambda version: {"params": {"kind": "depth"}})
    (tmp_path / "1.jpg").touch()
    with pytest.raises(UsageError, match=r"cells version 3: unknown kind 'depth'; .*; update visionline, or use"):
        next(predict.predict("cells", [tmp_path], predict.Written(tmp_path / "out")))


def test_progress_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter([0, 1, 31, 32, 62, 90])
    monkeypatch.setattr(told.time, "monotonic", lambda: next(clock))
    with told.progress(6) as tell:
        for done in range(1, 7):
            tell(done, 6)
    captured = capsys.readouterr()
    assert (captured.out, captured.err.splitlines()) == ("", ["3 of 6 images", "5 of 6 images"])
