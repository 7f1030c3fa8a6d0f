"""params.yaml: what is read, and every error at once with its place and a way out."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from stages.params import document
from stages.params.backbone import ARCHITECTURES
from stages.tracking import findings

KIND = "kind: detection"
ROOT = Path(__file__).parents[2]


def errors(file, *changes):
    """The lines of what load() says after replacing parts of the text."""
    text = file.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)
    with pytest.raises(ValueError) as caught:
        document.load(file)
    return str(caught.value).removeprefix(str(file)).split(f"\n{file}")


def test_what_is_written_is_what_is_read(params_file):
    params = document.load()
    assert (params.seed, params.cpu_threads) == (7, 2)
    assert params.datasets["birds"].validation.min_samples == 5
    assert params.backbones["small-net"].training.epochs == 1.5 and params.backbones["small-net"].training.steps is None
    assert params.tasks["cells"].training.steps == 10
    assert params.tasks["cells"].faster_rcnn.nms_iou == 0.5  # a default of its own kind
    assert params.tasks["breeds"].probe.iterations == 200


def test_a_number_in_scientific_notation_is_a_number(params_file):
    lr = document.read()["tasks"]["breeds"]["training"]["optimizer"]["lr"]
    assert isinstance(lr, float) and lr == 0.001


def test_the_entry_of_one_stage_is_that_of_the_whole(params_file):
    params = document.load()
    assert document.dataset_params("birds") == params.datasets["birds"]
    assert document.backbone_params("small-net") == params.backbones["small-net"]
    assert document.task_params("cells") == params.tasks["cells"]
    assert type(document.task_params("cells")).__module__ == "stages.params.detection"
    assert (document.seed(), document.cpu_threads()) == (7, 2)
    assert document.task_section(params.tasks["cells"].model_dump(mode="json")) == params.tasks["cells"]


def test_a_stage_reads_its_entry_though_another_is_wrong(params_file):
    params_file.write_text(params_file.read_text().replace("kind: classification", "kind: poetry"))
    assert document.task_params("cells").training.steps == 10


def test_all_errors_at_once_with_their_paths(params_file):
    said = errors(
        params_file,
        ("steps: 10", "stepz: 10"),
        ("batch_size: 4", "batch_size: 0"),
        ("min_samples: 5", "min_samples: many"),
        ("arch: resnet18", "arch: resnet19"),
        ("{steps: 5, optimizer: {lr: 1e-3}}", "{steps: 5, optimizer: {lr: -1}}"),
        ("seed: 7", "seed: -1"),
    )
    places = [line.removeprefix(": ").partition(": ")[0] for line in said]
    assert sorted(places) == [
        "backbones.small-net.arch",
        "datasets.birds.validation.min_samples",
        "seed",
        "tasks.breeds.training.optimizer.lr",
        "tasks.cells.training.batch_size",
        "tasks.cells.training.stepz",
    ]


@pytest.mark.parametrize(
    ("old", "new", "place", "words"),
    [
        ("steps: 10", "steps: 10\n      warmup: 3", "tasks.cells.training.warmup", ["unknown key"]),
        ("kind: detection", "kind: tracking", "tasks.cells", ["'tracking'", "classification, detection"]),
        ("kind: detection", "knid: detection", "tasks.cells", ["unknown kind None", "classification, detection"]),
        ("arch: resnet18", "arch: alexnet", "backbones.small-net.arch", ["'alexnet'", *ARCHITECTURES]),
        ("objective: supervised", "objective: magic", "backbones.small-net.objective", ["'magic'", "supervised"]),
        ("dataset: birds", "dataset: fish", "tasks.cells.dataset", ["no dataset 'fish'", "pets, birds"]),
        ("backbone: small-net\n    training:\n", "backbone: big\n    training:\n", "tasks.cells.backbone", ["big"]),
        ("stem: \"small\"", "stem: medium", "backbones.small-net.stem", ["imagenet", "small", "'medium'"]),
        ("  breeds:", "  Breeds!:", "tasks.Breeds!", ["pattern"]),
        ("  breeds:", "  small-net:", "tasks.small-net", ["a backbone has this name too"]),
        ("steps: 10", "steps: 10\n      epochs: 2", "tasks.cells.training", ["exactly one of steps and epochs"]),
        ("{steps: 5, optimizer: {lr: 1e-3}}", "{}", "tasks.breeds.training", ["exactly one of steps and epochs"]),
        ("{epochs: 1.5}", "", "backbones.small-net.training", ["None"]),
        ("  pets: {}", "  pets: {}\n  7: {}", "datasets.7", ["string"]),
        ("batch_size: 4", "batch_size: 4\n      accumulate: 3", "tasks.cells.training", ["4", "multiple", "3"]),
        ("steps: 10", "steps: 10\n      freeze: 2", "tasks.cells.training", ["freeze is no key", "adaptation: "]),
        (KIND, f"{KIND}\n    adaptation: loar", "tasks.cells.adaptation", ["'loar'", "bitfit, lora"]),
        (KIND, f"{KIND}\n    adaptation: {{mode: lora, rank: 0}}", "tasks.cells.adaptation.rank", ["0"]),
        (KIND, f"{KIND}\n    adaptation: {{mode: head, k: 2}}", "tasks.cells.adaptation.k", ["unknown"]),
        (KIND, f"{KIND}\n    adaptation: {{mode: last_k, k: 5}}", "tasks.cells.adaptation.k", ["4", "5"]),
        (KIND, f"{KIND}\n    adaptation: {{rank: 2}}", "tasks.cells.adaptation", ["must be a mode", "lora"]),
        (KIND, f"{KIND}\n    adaptation: {{mode: gradual, thaw_at: [0.5, 0.2]}}",
         "tasks.cells.adaptation.thaw_at", ["must not fall"]),
        ("stem: \"small\"", "stem: small\n    adaptation: head", "backbones.small-net.adaptation", ["unknown key"]),
        ("steps: 10", "steps: 10\n      early_stopping: {}", "tasks.cells.training", ["needs validate_every"]),
        ("  pets: {}", "  pets:", "datasets.pets", ["None"]),
    ],
)  # fmt: skip
def test_an_error_says_where_what_and_what_there_is(params_file, old, new, place, words):
    said = errors(params_file, (old, new))
    assert any(line.startswith(f": {place}: ") and all(word in line for word in words) for line in said), said


def test_several_dangling_references_at_once(params_file):
    said = errors(params_file, ("dataset: birds", "dataset: fish"), ("dataset: pets", "dataset: cats"))
    assert len(said) == 3 and not any("\n" in line for line in said)


def test_a_broken_entry_hides_no_dangling_reference(params_file):
    said = errors(params_file, ("dataset: birds", "dataset: fish"), ("seed: 7", "seed: -1"))
    assert len(said) == 2 and any("no dataset 'fish'" in line for line in said)


def test_an_empty_entry_is_named_when_a_stage_reads_it(params_file):
    params_file.write_text(params_file.read_text().replace("  pets: {}", "  pets:"))
    with pytest.raises(ValueError, match=r"^params\.yaml: datasets\.pets: [A-Z].*None$"):
        document.dataset_params("pets")


def test_a_key_that_comes_twice_is_refused(params_file):
    with pytest.raises(ValueError, match='duplicate key "seed"') as caught:
        params_file.write_text(params_file.read_text() + "seed: 8\n")
        document.load()
    assert "line 33" in str(caught.value) and "\n" not in str(caught.value)


def test_a_syntax_error_has_its_line(params_file):
    params_file.write_text("seed: 0\ndatasets: {pets: {}\nbackbones: {}\n")
    with pytest.raises(ValueError, match="line 3") as caught:
        document.load()
    assert "\n" not in str(caught.value) and str(caught.value).startswith("params.yaml: ")


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "seed"])
def test_a_file_without_keys_is_refused(params_file, text):
    params_file.write_text(text)
    with pytest.raises(ValueError, match="must hold keys"):
        document.load()


def test_a_file_that_is_not_there_names_the_way_to_one(params_file):
    params_file.unlink()
    with pytest.raises(FileNotFoundError, match="visionline init"):
        document.load()


@pytest.mark.parametrize(
    ("read", "group", "there"),
    [("dataset_params", "dataset", "pets, birds"), ("task_params", "task", "cells, breeds")],
)
def test_an_entry_that_is_not_there_names_those_that_are(params_file, read, group, there):
    with pytest.raises(
        ValueError, match=f"no {group} 'x'; there are: {'pets, birds' if group == 'dataset' else 'cel'}"
    ):
        getattr(document, read)("x")


@pytest.mark.parametrize("ask", [document.section_of, document.starter, findings.form_of])
def test_a_kind_that_is_not_there_names_those_that_are(ask):
    with pytest.raises(ValueError, match=r"unknown kind 'depth'; there are: classification, detection, "):
        ask("depth")


def test_a_section_is_frozen(params_file):
    with pytest.raises(ValidationError, match="frozen"):
        document.load().seed = 1


@pytest.mark.parametrize(
    "file", [ROOT / "params.yaml", *sorted((ROOT / "recipes").glob("*.yaml"))], ids=lambda f: f.stem
)
def test_what_is_shipped_is_valid(file):
    assert document.load(file).backbones
