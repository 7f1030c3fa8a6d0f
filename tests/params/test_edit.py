"""Editing params.yaml: comments and order stay, and what the schema refuses leaves the file as it was."""

import subprocess

import pytest

from stages.params import document
from stages.params.edit import add_entries, difference, set_values, write_atomically


def test_comments_quotes_and_order_stay(params_file):
    before = params_file.read_text()
    assert set_values({"tasks.cells.training.steps": "20"}) == ["tasks.cells.training.steps"]
    assert params_file.read_text() == before.replace("steps: 10 ", "steps: 20 ")
    assert document.load().tasks["cells"].training.steps == 20


def test_a_known_key_that_was_not_there_is_added(params_file):
    changed = {"tasks.cells.training.optimizer.lr": "1e-2", "tasks.breeds.control": "true"}
    assert set_values(changed) == list(changed)
    tasks = document.load().tasks
    assert tasks["cells"].training.optimizer.lr == 0.01 and tasks["breeds"].control is True
    assert "# optimizer steps" in params_file.read_text()


def test_a_key_of_an_empty_section_is_set(params_file):
    params_file.write_text(params_file.read_text().replace("  pets: {}", "  pets:"))
    assert set_values({"datasets.pets.validation.min_samples": "3"}) == ["datasets.pets.validation.min_samples"]
    assert document.load().datasets["pets"].validation.min_samples == 3


def test_the_same_value_changes_nothing(params_file):
    stamp = params_file.stat().st_mtime_ns
    assert set_values({"tasks.cells.training.steps": "10"}) == []
    assert params_file.stat().st_mtime_ns == stamp


def test_a_list_is_set_as_a_whole(params_file):
    set_values({"tasks.cells.image_size_px": "[64, 96]"})
    assert document.load().tasks["cells"].image_size_px == (64, 96)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("tasks.cells.training.stepz", "20", "tasks.cells.training.stepz: unknown key"),
        ("tasks.cells.training.steps", "0", "tasks.cells.training.steps: "),
        ("tasks.cells.training.steps", "many", "tasks.cells.training.steps: "),
        ("tasks.ghosts.training.steps", "3", "tasks.ghosts: unknown kind"),
        ("colour", "red", "colour: unknown key"),
        ("seed.sub", "1", "seed"),
        ("tasks.cells.training.steps.sub.sub", "1", "tasks.cells.training.steps"),
        ("tasks.cells.training.steps", "[1,", "tasks.cells.training.steps"),
        ("backbones.small-net.arch", "resnet19", "resnet18, resnet34"),
    ],
)
def test_what_the_schema_refuses_leaves_the_file_untouched(params_file, key, value, said):
    before = params_file.read_bytes(), params_file.stat().st_mtime_ns
    with pytest.raises(ValueError) as caught:
        set_values({"seed": "3", key: value})
    assert said in str(caught.value)
    assert (params_file.read_bytes(), params_file.stat().st_mtime_ns) == before
    assert [f.name for f in params_file.parent.iterdir()] == ["params.yaml"]


def test_entries_are_added_where_names_are_missing(params_file):
    before = params_file.read_text()
    entry = {"kind": "classification", "dataset": "fish", "backbone": "small-net", "training": {"steps": 3}}
    added = add_entries({"datasets": {"fish": {}, "pets": {"validation": {}}}, "tasks": {"sorts": entry}})
    assert added == ["datasets.fish", "tasks.sorts"]
    assert document.load().tasks["sorts"].training.steps == 3
    assert set(before.splitlines()) <= set(params_file.read_text().splitlines())
    assert add_entries({"datasets": {"fish": {"validation": {"min_samples": 1}}}}) == []


def test_entries_fill_a_group_that_is_empty(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text("seed: 0\ndatasets:\nbackbones: {}\ntasks: {}\n")
    assert add_entries({"datasets": {"fish": {}}}, file) == ["datasets.fish"]
    assert list(document.load(file).datasets) == ["fish"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "file"
    write_atomically(file, b"old")

    def full(descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_atomically(file, b"new")
    assert file.read_bytes() == b"old"


def test_a_difference_can_be_applied_with_git_and_the_file_stays(params_file):
    before = params_file.read_text()
    changes = {"tasks.cells.training.optimizer.lr": "0.0123", "tasks.cells.training.steps": "20",
               "tasks.breeds.augmentation.crop_scale": "[0.5, 1.0]"}  # fmt: skip
    told = difference(changes)
    assert params_file.read_text() == before
    assert "-      steps: 10                    # optimizer steps\n" in told
    assert "+      steps: 20                    # optimizer steps\n" in told
    assert "+    augmentation:\n+      crop_scale: [0.5, 1.0]\n" in told
    subprocess.run(["git", "apply", "-"], input=told, text=True, check=True, cwd=params_file.parent)
    applied = params_file.read_text()
    params_file.write_text(before)
    set_values(changes)
    assert params_file.read_text() == applied
    assert difference(changes) == ""


def test_a_difference_that_the_schema_refuses_is_none(params_file):
    with pytest.raises(ValueError, match=r"tasks\.cells\.training\.steps"):
        difference({"tasks.cells.training.steps": "0"})


def test_a_line_that_grows_stays_one(params_file):
    name = "a" * 70
    set_values({"models.cells": f"{{promote: auto, purpose: {name}, limits: {name}}}"})
    assert f"  cells: {{promote: auto, purpose: {name}, limits: {name}}}\n" in params_file.read_text()
