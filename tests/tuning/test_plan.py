"""Which study a search goes on with: that of the same data, backbone, parameters and ranges."""

from dataclasses import replace

import pytest

from stages.params.tuning import TuningParams
from stages.tuning.plan import Plan

ENTRY = {
    "kind": "classification", "dataset": "d", "backbone": "b", "training": {"steps": 4, "optimizer": {"lr": 0.1}},
}  # fmt: skip
RANGES = {"training.optimizer.lr": {"low": 1e-4, "high": 1, "log": True}, "training.steps": {"low": 2, "high": 8}}
PLAN = Plan("cells", ENTRY, TuningParams.model_validate({"ranges": RANGES}), 0, 1, {"data/d": "x", "stages/a.py": "y"})


def changed(**training):
    return {**ENTRY, "training": {**ENTRY["training"], **training}}


@pytest.mark.parametrize(
    "change",
    [
        {"entry": changed(optimizer={"lr": 0.2})},  # has a range
        {"entry": {**ENTRY, "control": True, "evaluation": {"resamples": 5}}},
        {"tuning": TuningParams.model_validate({"ranges": RANGES, "trials": 99})},
        {"dep_hashes": {"data/d": "x", "stages/a.py": "changed"}},
    ],
)
def test_what_changes_no_trial_keeps_the_study(change):
    assert replace(PLAN, **change).file == PLAN.file


@pytest.mark.parametrize(
    "change",
    [
        {"entry": changed(batch_size=3)},
        {"entry": {**ENTRY, "dropout": 0.5}},
        {"tuning": TuningParams.model_validate({"ranges": {"training.optimizer.lr": {"low": 1e-4, "high": 2}}})},
        {"tuning": TuningParams.model_validate({"ranges": RANGES, "overrides": {"training.batch_size": 3}})},
        {"tuning": TuningParams.model_validate({"ranges": RANGES, "pruner": {"name": "none"}})},
        {"dep_hashes": {"data/d": "changed", "stages/a.py": "y"}},
        {"seed": 1},
        {"cpu_threads": 2},
        {"key": "others"},
    ],
)
def test_what_changes_trials_is_another_study(change):
    assert replace(PLAN, **change).file != PLAN.file


def test_a_trial_has_its_values_on_top_of_the_overrides_on_top_of_the_entry():
    tuning = TuningParams.model_validate({"ranges": RANGES, "overrides": {"training.batch_size": 3}})
    params = replace(PLAN, tuning=tuning).params({"training.optimizer.lr": 0.5})
    assert (params.training.optimizer.lr, params.training.batch_size, params.training.steps) == (0.5, 3, 4)
    assert PLAN.present() == {"training.optimizer.lr": 0.1, "training.steps": 4}
    assert PLAN.is_whole() == {"training.optimizer.lr": False, "training.steps": True}
    with pytest.raises(ValueError, match=r"tasks\.cells: training\.steps: "):
        PLAN.params({"training.steps": 0})
