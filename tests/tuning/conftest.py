"""Searches with a training of microseconds, whose best learning rate is 0.001 and which is better the smaller n is."""

import math
from contextlib import contextmanager

import pytest

from stages.params.tuning import TuningParams
from stages.tuning.study import Study, work

RANGES = {
    "lr": {"low": 1e-5, "high": 1e-1, "log": True},
    "n": {"low": 1, "high": 9},
    "c": {"choices": ["a", [1, 2]]},
}
IS_WHOLE = {"lr": False, "n": True, "c": True}
PRESENT = {"lr": 0.01, "n": 4, "c": [1, 2]}
VALIDATIONS = 4


class Quick:
    """An attempt that validates a few times; `at` is called before each and at the end, and may raise or kill."""

    def __init__(self, study, trial, at):
        self.study, self.trial, self.at, self.told = study, trial, at, None

    def train(self):
        values = self.trial.values
        best = 1 - abs(math.log10(values["lr"]) + 3) / 3 - 0.02 * values["n"] - (0.1 if values["c"] == "a" else 0)
        for i in range(1, VALIDATIONS + 1):
            self.at(self.trial.number, i)
            self.study.judge(self.trial, i / VALIDATIONS, best * i / VALIDATIONS)
        return best

    def ended(self, ended):
        self.told = ended
        self.at(self.trial.number, "told")


def nothing(number, moment):
    pass


def open_study(folder, name="study", seed=3, ranges=None, **tuning):
    params = TuningParams.model_validate({"ranges": ranges or RANGES, **tuning})
    return Study(folder / f"{name}.journal", params, IS_WHOLE, seed)


def run(study, most, at=nothing, first=None):
    """Work on a study until each of the first trials is taken; the trials that this call began."""
    begun = []

    @contextmanager
    def attempt(trial):
        at(trial.number, "claimed")
        begun.append(trial)
        yield Quick(study, trial, at)

    work(study, most, attempt, PRESENT if first is None else first)
    return begun


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
