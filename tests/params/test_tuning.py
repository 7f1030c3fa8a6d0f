"""`tuning`: keys and values are tried in the task's own section when params.yaml is read, and nothing else is told."""

import pytest

from stages.params import document
from stages.params.classification import Params
from stages.params.tuning import fields, placed, value_at

SOUND = """
tuning:
  cells:
    trials: 5
    ranges:
      training.optimizer.lr: {low: 1e-5, high: 1e-2, log: true}
      training.optimizer.weight_decay: {low: 0, high: 1}
      training.batch_size: {low: 2, high: 8, step: 2}
      training.optimizer.name: {choices: [sgd, adamw]}
      image_size_px: {choices: [[64, 96], [128, 160]]}
    overrides: {training.steps: null, training.epochs: 2, training.validate_every: 5}
    pruner: {name: hyperband, warmup: 0.1}
"""


def said(file, text):
    """The lines of what load() says with a section `tuning`."""
    before = file.read_text()
    file.write_text(before + text)
    try:
        with pytest.raises(ValueError) as caught:
            document.load(file)
    finally:
        file.write_text(before)
    return [line.removeprefix(f"{file}: ") for line in str(caught.value).splitlines()]


def of_range(file, path, text):
    return said(file, f"tuning: {{cells: {{ranges: {{{path}: {text}}}}}}}")


def test_a_sound_section_is_read(params_file):
    params_file.write_text(params_file.read_text() + SOUND)
    tuning = document.load().tuning["cells"]
    assert tuning == document.tuning_params("cells")
    assert (tuning.trials, tuning.pruner.name, tuning.pruner.warmup) == (5, "hyperband", 0.1)
    assert tuning.ranges["training.optimizer.lr"].low == 1e-5 and tuning.ranges["training.optimizer.lr"].log
    assert tuning.ranges["image_size_px"].choices == ([64, 96], [128, 160])
    with pytest.raises(ValueError, match=r"params\.yaml has no ranges for breeds: add tuning\.breeds"):
        document.tuning_params("breeds")


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("training.optimizer.learning_rate", "training.optimizer."),
        ("lr", "training.optimizer.lr"),
        ("training.lr", "training.optimizer.lr"),
        ("augmentation.brightnes", "augmentation.brightness"),
        ("training.optimizer", "training.optimizer.lr"),
        ("probe.l2", "training."),  # of another kind
    ],
)
def test_an_unknown_key_is_answered_with_near_ones(params_file, path, near):
    (line,) = of_range(params_file, path, "{low: 0.1, high: 0.2}")
    assert line.startswith(f"tuning.cells.ranges.{path}: unknown key; near: ") and near in line
    (line,) = said(
        params_file, f"tuning: {{cells: {{ranges: {{dropout: {{low: 0.0, high: 0.2}}}}, overrides: {{{path}: 1}}}}}}"
    )
    assert line.startswith(f"tuning.cells.overrides.{path}: unknown key; near: ") and near in line


@pytest.mark.parametrize("path", ["kind", "dataset", "backbone", "control", "evaluation.resamples"])
def test_what_a_task_is_has_no_range(params_file, path):
    assert of_range(params_file, path, "{choices: [0, 1]}") == [
        f"tuning.cells.ranges.{path}: is not for tuning: it decides no training"
    ]


@pytest.mark.parametrize(
    ("path", "text", "words"),
    [
        (
            "training.optimizer.lr",
            "{low: 0, high: 0.1}",
            "low 0: training.optimizer.lr: Input should be greater than 0",
        ),
        ("training.optimizer.lr", "{low: 0.1, high: 1000}", "high 1000: training.optimizer.lr: "),
        ("training.batch_size", "{low: 1.5, high: 4}", "low 1.5: training.batch_size: "),
        ("training.optimizer.name", "{choices: [adam, adamx]}", "choice 'adamx': training.optimizer.name: "),
        ("training.accumulate", "{choices: [1, 2, 3]}", "choice 3: training: batch_size 4 is not a multiple"),
        ("training.epochs", "{low: 1.0, high: 2.0}", "low 1.0: training: give exactly one of steps and epochs"),
        ("dropout", "{low: 0.5, high: 0.5}", "low 0.5 must be below high 0.5"),
        ("dropout", "{low: 0.5}", "give low and high, or choices"),
        ("dropout", "{}", "give low and high, or choices"),
        ("dropout", "{low: 0.0, high: 0.5, log: true}", "low 0 must be above 0 on a logarithmic scale"),
        ("dropout", "{low: 0.1, high: 0.5, log: true, step: 0.1}", "a logarithmic scale has no step"),
        ("dropout", "{low: 0.1, high: 0.5, step: 0.5}", "step 0.5 leaves low as the only value"),
        ("dropout", "{low: 0.1, high: .inf}", "must be below high inf"),
        ("dropout", "{choices: [0.1]}", "choices must be two or more values, each once"),
        ("dropout", "{choices: [0.1, 0.2, 0.1]}", "choices must be two or more values, each once"),
        ("dropout", "{choices: [0.1, 0.2], log: true}", "give either choices, or low and high"),
        ("dropout", "{low: small, high: 1}", "ranges.dropout.low"),
        ("dropout", "{low: 0.1, hihg: 1}", "ranges.dropout.hihg: unknown key"),
    ],
)
def test_a_value_that_the_task_refuses_is_told_with_its_end(params_file, path, text, words):
    lines = of_range(params_file, path, text)
    assert all(line.startswith("tuning.cells.ranges") for line in lines)
    assert any(words in line for line in lines), lines


def test_overrides_are_tried_together_and_ranges_on_top_of_them(params_file):
    ranges = "ranges: {training.accumulate: {choices: [1, 3]}}"
    assert said(params_file, f"tuning: {{cells: {{{ranges}, overrides: {{training.epochs: 2}}}}}}") == [
        "tuning.cells.overrides: training: give exactly one of steps and epochs"
    ]
    assert said(params_file, f"tuning: {{cells: {{{ranges}, overrides: {{training.accumulate: 1}}}}}}") == [
        "tuning.cells.overrides.training.accumulate: has a range, too",
        "tuning.cells.ranges.training.accumulate: choice 3: training: batch_size 4 is not a multiple of accumulate 3",
    ]
    params_file.write_text(
        params_file.read_text() + f"tuning: {{cells: {{{ranges}, overrides: {{training.batch_size: 6}}}}}}"
    )
    assert document.load().tuning["cells"].overrides == {"training.batch_size": 6}


def test_a_task_that_is_not_there_or_is_wrong_itself(params_file):
    (line,) = said(params_file, "tuning: {ghosts: {ranges: {dropout: {low: 0.0, high: 0.5}}}}")
    assert line == "tuning.ghosts: no task 'ghosts'; there are: cells, breeds"
    params_file.write_text(params_file.read_text().replace("steps: 10", "stepz: 10"))
    lines = of_range(params_file, "dropout", "{low: 0.0, high: 0.5}")
    assert [line.partition(":")[0] for line in lines] == ["tasks.cells.training.stepz"]


def test_fields_are_the_leaves_of_a_section_with_what_is_whole():
    known = fields(Params)
    assert known["training.optimizer.lr"] is False and known["training.batch_size"] is True
    assert known["training.early_stopping.patience"] is True and known["training.early_stopping.min_delta"] is False
    assert known["training.epochs"] is False and known["training.steps"] is True
    assert not {"training", "training.optimizer", "training.early_stopping"} & set(known)


def test_values_are_placed_where_there_was_no_section():
    entry = {"a": {"b": 1}, "c": None}
    assert placed(entry, {"a.b": 2, "c.d.e": 3}) == {"a": {"b": 2}, "c": {"d": {"e": 3}}}
    assert entry == {"a": {"b": 1}, "c": None}
    assert (value_at(entry, "a.b"), value_at(entry, "c.d.e"), value_at(entry, "x")) == (1, None, None)
