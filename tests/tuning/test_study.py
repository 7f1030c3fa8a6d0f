"""Studies: exactly so many trials whoever dies, and the same ones as if nobody had."""

import math
import os
import signal
from contextlib import contextmanager
from dataclasses import replace
from statistics import fmean

import pytest

from stages.params.tuning import TuningParams
from stages.tuning import study as studies
from stages.tuning.study import HopelessError, Study, work

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


MOMENTS = [(2, "claimed"), (5, 2), (7, "told")]


def killed(folder, most, number, moment, **tuning):
    """Let a process work on the study that kills itself at a moment of a trial."""

    def at(*now):
        if now == (number, moment):
            os.kill(os.getpid(), signal.SIGKILL)

    pid = os.fork()
    if pid == 0:
        try:
            run(open_study(folder, **tuning), most, at)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def facts(study):
    """What of the ended trials must not depend on who was killed."""
    return [replace(ended, seconds=0.0) for ended in study.ended()]


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_killed_at_any_moment_it_ends_with_the_trials_of_an_uninterrupted_one(here, pruner):
    # The study has the same name as the other: its brackets of Hyperband depend on it.
    (here / "whole").mkdir()
    whole = open_study(here / "whole", pruner={"name": pruner, "startup_trials": 3})
    run(whole, 12)
    for number, moment in MOMENTS:
        killed(here, 12, number, moment, pruner={"name": pruner, "startup_trials": 3})
    study = open_study(here, pruner={"name": pruner, "startup_trials": 3})
    assert study.num_over(12) == 8  # 0 to 7; the last was killed after it was told
    begun = run(study, 12)
    assert [trial.number for trial in begun] == [8, 9, 10, 11]
    assert facts(study) == facts(whole)
    assert len(study.study.get_trials()) == 12 and study.num_over(12) == 12
    assert {ended.state for ended in study.ended()} == {"complete", "pruned"}


def test_a_killed_trial_is_taken_up_again_with_its_values_and_what_it_reported(here):
    killed(here, 5, 3, 3, pruner={"name": "none"})
    study = open_study(here, pruner={"name": "none"})
    (left,) = [trial for trial in study.study.get_trials() if not trial.state.is_finished()]
    again, last = run(study, 5)
    assert (again.number, again.is_again, last.number, last.is_again) == (3, True, 4, False)
    assert again.values["lr"] == left.params["lr"] and again.values["n"] == left.params["n"]
    assert again.reported == {250, 500}


def test_a_line_that_a_crash_cut_off_is_dropped(here):
    run(open_study(here), 3)
    journal = here / "study.journal"
    with journal.open("ab") as file:
        file.write(b'{"op_code":4,"work')
    study = open_study(here)
    assert study.num_over(3) == 3
    run(study, 5)
    assert facts(open_study(here)) == facts_of_whole(here, 5)


def test_an_error_of_another_kind_leaves_the_trial_for_who_works_next(here, monkeypatch):
    def full(number, moment):
        if (number, moment) == (2, 2):
            raise OSError("no space left")

    study = open_study(here)
    with pytest.raises(OSError, match="no space left"):
        run(study, 4, full)
    assert study.num_over(4) == 2
    assert run(study, 2) == []
    monkeypatch.setattr(studies, "is_alive", lambda pid, started: False)
    assert [trial.number for trial in run(study, 4)] == [2, 3]
    monkeypatch.undo()
    assert facts(study) == facts_of_whole(here, 4)


def facts_of_whole(here, most):
    (here / "other").mkdir()
    whole = open_study(here / "other")
    run(whole, most)
    return facts(whole)


def test_more_trials_go_on_where_fewer_ended_and_fewer_begin_none(here):
    study = open_study(here)
    assert [trial.number for trial in run(study, 3)] == [0, 1, 2]
    assert run(study, 3) == run(study, 2) == []
    assert [trial.number for trial in run(open_study(here), 6)] == [3, 4, 5]
    assert facts(study) == facts_of_whole(here, 6)


def test_two_who_work_at_once_never_have_the_same_trial_and_stop_at_the_last(here):
    first, second = open_study(here), open_study(here)
    claimed = [worker.claim(5) for worker in (first, second, first, second, first)]
    assert [trial.number for trial in claimed] == [0, 1, 2, 3, 4]
    assert len({str(trial.values) for trial in claimed}) == 5
    assert first.claim(5) is None and second.claim(5) is None
    assert first.num_over(5) == 0


def test_the_first_trial_is_what_stands_in_the_file_if_the_ranges_allow_it(here):
    run(open_study(here), 1)
    (first,) = open_study(here).ended()
    assert first.is_first and first.values == PRESENT
    for name, outside in {"a": {"lr": 0.5}, "b": {"n": 10}, "c": {"c": "b"}, "d": {"lr": None}}.items():
        study = open_study(here, name)
        run(study, 1, first=PRESENT | outside)
        assert not study.ended()[0].is_first
        assert study.encoded(PRESENT | outside) is None


def test_values_are_short_and_in_their_ranges(here):
    study = open_study(here, sampler={"name": "random"})
    run(study, 20)
    for ended in study.ended():
        assert 1e-5 <= ended.values["lr"] <= 1e-1
        assert ended.values["lr"] == float(f"{ended.values['lr']:.4g}")
        assert isinstance(ended.values["n"], int) and 1 <= ended.values["n"] <= 9
        assert ended.values["c"] in ("a", [1, 2])


def test_random_values_cover_the_ranges_though_each_has_a_seed_of_its_own(here):
    """Numbers that follow each other as seeds gave nearly the same second value each time."""
    ranges = {path: {"low": 0.0, "high": 1.0} for path in ("x", "y", "z")}
    params = studies.TuningParams.model_validate({"ranges": ranges, "sampler": {"name": "random"}})
    study = studies.Study(here / "cover.journal", params, dict.fromkeys(ranges, False), 0)
    found = [study.claim(24).values for _ in range(24)]
    for path in ranges:
        quarters = [sum(int(values[path] * 4) == quarter for values in found) for quarter in range(4)]
        assert min(quarters) >= 2, (path, quarters)


def test_it_learns(here):
    study = open_study(here, pruner={"name": "none"}, sampler={"startup_trials": 8})
    run(study, 32)
    values = [ended.value for ended in study.ended()]
    assert fmean(values[-12:]) > fmean(values[:8]) + 0.1, values
    shares = study.importances()
    assert set(shares) == set(RANGES) and sum(shares.values()) == pytest.approx(1, abs=0.01)


def test_other_seeds_try_other_values(here):
    seen = []
    for seed in (0, 1):
        study = open_study(here, f"seed-{seed}", seed=seed)
        run(study, 3)
        seen.append([ended.values for ended in study.ended()])
    assert seen[0][0] == seen[1][0] == PRESENT
    assert seen[0][1:] != seen[1][1:]


def test_no_values_come_twice_until_all_were_tried(here):
    ranges = {"lr": {"choices": [0.001, 0.01]}, "n": {"low": 1, "high": 2}, "c": {"choices": ["a", [1, 2]]}}
    study = open_study(here, ranges=ranges)
    run(study, 10, first={"lr": 0.01, "n": 1, "c": "a"})
    tried = [str(ended.values) for ended in study.ended()]
    assert len(tried) == 10 and len(set(tried[:8])) == 8


def test_a_trial_that_can_not_go_well_counts(here):
    def at(number, moment):
        if number == 1 and moment == 3:
            raise HopelessError("loss is nan at step 7")

    study = open_study(here, pruner={"name": "none"})
    run(study, 3, at)
    ended = study.ended()[1]
    assert (ended.state, ended.reason) == ("failed", "loss is nan at step 7")
    assert [other.state for other in study.ended()] == ["complete", "failed", "complete"]
    assert study.num_over(3) == 3 and ended.value < study.ended()[0].value + study.ended()[2].value


def test_a_trial_is_given_up_when_its_process_dies_again_and_again(here, monkeypatch):
    study = open_study(here)
    with pytest.raises(LookupError):
        study.note_death(os.getpid())
    study.claim(3)
    monkeypatch.setattr(studies, "is_alive", lambda pid, started: False)
    for _ in range(2):
        assert study.note_death(os.getpid()) == "trial 0: its process was killed; it is taken up again"
    assert "its process was killed 3 times" in study.note_death(os.getpid())
    (ended,) = study.ended()
    assert (ended.number, ended.state, ended.value) == (0, "failed", None)
    assert study.note_death(os.getpid()) == "" and len(study.ended()) == 1


def test_the_death_of_who_had_a_trial_before_is_no_end_of_it_for_who_has_it_now(here):
    killed(here, 2, 0, "claimed")
    study = open_study(here)
    again = study.claim(2)
    (first, mine) = study.study.get_trials()[0].user_attrs["pids"]
    assert (again.number, mine) == (0, os.getpid())
    for _ in range(5):
        assert study.note_death(first).endswith("it is taken up again")
    assert study.ended() == []


def test_a_bad_trial_is_pruned_at_a_validation_with_the_reason(here):
    study = open_study(here, pruner={"startup_trials": 2, "warmup": 0.5})
    moments = []
    run(study, 12, lambda number, moment: moments.append((number, moment)))
    pruned = [ended for ended in study.ended() if ended.state == "pruned"]
    assert pruned and all(ended.reason == "others were better after 50% of the training" for ended in pruned)
    assert all((ended.number, 2) in moments and (ended.number, 3) not in moments for ended in pruned)
    assert not [ended for ended in study.ended()[:2] if ended.state == "pruned"]


def test_without_a_pruner_each_trial_runs_to_its_end(here):
    study = open_study(here, pruner={"name": "none"})
    run(study, 12, nothing)
    assert {ended.state for ended in study.ended()} == {"complete"}
