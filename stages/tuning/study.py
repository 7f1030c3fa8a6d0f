"""A study: trials of a task's parameters in a file that outlives the processes which work on it.

The next trial's values are a function of the seed, its number and the trials before it. A trial whose process died is
taken up again under its number, with its values. So a study that was interrupted proposes what it would have proposed.
"""

import fcntl
import json
import os
import platform
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from stages.params.tuning import PrunerParams, RangeParams, SamplerParams, TuningParams
from stages.tracking.process import is_alive, locked, start_mark

OVER = (TrialState.COMPLETE, TrialState.PRUNED)
WHOLE = 1000  # a training in the pruner's steps: trials of other lengths are compared at the same share of theirs
MAX_DEATHS = 3  # a trial whose process was ended so often, as for its memory, is given up
MAX_DRAWS = 50  # until values come that no trial had; few choices are soon used up
PROCESS, PIDS, DEATHS = "process", "pids", "deaths"  # of whom it has, of all who had it
REASON, RUN, SECONDS, FIRST = "reason", "run", "seconds", "first"


class PrunedError(Exception):
    """A trial is worse than others at the same time: its training stops."""


class HopelessError(Exception):
    """A trial's own values made it fail: it counts, as the worst there is."""


@dataclass(frozen=True)
class Trial:
    """A trial that this process works on."""

    number: int
    values: dict[str, Any]  # dotted key of the task -> value
    is_again: bool  # an earlier process died over it
    asked: optuna.Trial = field(repr=False)
    reported: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Ended:
    """What became of a trial: complete, pruned or failed."""

    number: int
    state: str
    value: float | None  # the best of its validations; None when it had none
    values: dict[str, Any]
    seconds: float
    reason: str
    run: str  # in MLflow
    is_first: bool  # its values are those that params.yaml had when the study began


class Study:
    """The trials of one task; several processes may work on the same file."""

    def __init__(self, file: Path, params: TuningParams, is_whole: Mapping[str, bool], seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        file.parent.mkdir(parents=True, exist_ok=True)
        self.name, self.seed, self.sampler = file.stem, seed, params.sampler
        self.distributions = {path: _distribution(span, is_whole[path]) for path, span in params.ranges.items()}
        self.study = optuna.create_study(
            study_name=self.name, storage=_storage(file), direction="maximize", load_if_exists=True,
            sampler=RandomSampler(0), pruner=_pruner(params.pruner),  # what it draws itself is not used
        )  # fmt: skip

    def num_over(self, most: int) -> int:
        """How many of the first trials have ended."""
        return sum(trial.state in OVER for trial in self._trials()[:most])

    def ended(self) -> list[Ended]:
        """All trials that have ended, by number."""
        return [_ended(trial) for trial in self._trials() if trial.state in OVER]

    def claim(self, most: int, first: Mapping[str, Any] | None = None) -> Trial | None:
        """A trial for this process: one whose process died, else the next; None when each of the first is taken.

        first: the values of trial 0, where they lie in the ranges.
        """
        with locked(f"{self.name}.claim", wait_s=60):
            trials = self._trials()
            left = [t for t in trials[:most] if t.state == TrialState.RUNNING and not _is_worked_on(t)]
            if not left and len(trials) >= most:
                return None
            number = left[0].number if left else self._add(trials, first)
            found = self.study.get_trials(deepcopy=False)[number]
            # Optuna offers no other way to go on with a trial that another process began.
            asked = optuna.Trial(self.study, found._trial_id)
            asked.set_user_attr(PROCESS, _this_process())
            asked.set_user_attr(PIDS, [*found.user_attrs[PIDS], os.getpid()])
            return Trial(number, _decoded(found), bool(left), asked, frozenset(found.intermediate_values))

    def judge(self, trial: Trial, share: float, value: float) -> None:
        """Note the metric of a validation at a share of the training; PrunedError when others did better by then."""
        step = round(share * WHOLE)
        if step not in trial.reported:
            trial.asked.report(value, step)
        if step < WHOLE and trial.asked.should_prune():
            raise PrunedError(f"others were better after {share:.0%} of the training")

    @property
    def metric(self) -> str:
        """The main metric, once a trial has begun."""
        return str(self.study.user_attrs.get("metric", "metric"))

    def note_metric(self, name: str) -> None:
        """Keep the name of the main metric."""
        if self.metric != name:
            self.study.set_user_attr("metric", name)

    def note_run(self, trial: Trial, run_id: str) -> None:
        """Note the MLflow run of a trial."""
        trial.asked.set_user_attr(RUN, run_id)

    def tell(self, trial: Trial, value: float | None, reason: str = "") -> None:
        """End a trial: complete with a value, pruned or failed with a reason."""
        if reason:
            trial.asked.set_user_attr(REASON, reason)
        state = TrialState.COMPLETE if value is not None else TrialState.PRUNED
        self.study.tell(trial.asked, value, state)

    def note_death(self, pid: int) -> str:
        """Count the death of a process against its trial, which may be given up; in words, '' where others ended it.

        LookupError when it never had a trial.
        """
        had = [trial for trial in self._trials() if pid in trial.user_attrs[PIDS]]
        if not had:
            raise LookupError(f"process {pid} had no trial")
        trial = had[-1]
        if trial.state in OVER:
            return ""
        deaths = trial.user_attrs.get(DEATHS, 0) + 1
        asked = optuna.Trial(self.study, trial._trial_id)
        asked.set_user_attr(DEATHS, deaths)
        if deaths < MAX_DEATHS or _is_worked_on(trial):
            return f"trial {trial.number}: its process was killed; it is taken up again"
        reason = f"failed: its process was killed {deaths} times, as for want of memory"
        self.tell(Trial(trial.number, {}, True, asked), None, reason)
        return f"trial {trial.number} {reason}"

    def importances(self) -> dict[str, float]:
        """Share of each key in what sets the best apart (PED-ANOVA, Watanabe et al. 2023); {} when too few ended."""
        if len(self.distributions) < 2 or sum(t.state == TrialState.COMPLETE for t in self._trials()) < 10:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25)
        found = optuna.importance.get_param_importances(self.study, evaluator=evaluator)
        return {path: round(float(share), 3) for path, share in found.items()}

    def _trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _add(self, trials: list[FrozenTrial], first: Mapping[str, Any] | None) -> int:
        """Begin the next trial, whole in one transaction; returns its number."""
        present = self.encoded(first) if first and not trials else None
        values = present if present is not None else self._proposed(trials)
        facts = {PROCESS: _this_process(), PIDS: [], FIRST: present is not None}
        self.study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.RUNNING, params=values, distributions=self.distributions, user_attrs=facts
            )
        )
        return len(trials)

    def _proposed(self, trials: list[FrozenTrial]) -> dict[str, Any]:
        """Values for the next trial that none had before, unless all were tried."""
        known = [trial.params for trial in trials]
        proposed: dict[str, Any] = {}
        for draw in range(MAX_DRAWS):
            sampler = _sampler(self.sampler, _seed(self.seed, len(trials), draw))
            # Beside the study on disk, so that there a trial is either not there or has all its values.
            beside = optuna.create_study(
                study_name=self.name, direction="maximize", sampler=sampler, pruner=self.study.pruner
            )
            beside.add_trials(trials)
            asked = beside.ask(self.distributions).params
            proposed = {path: _short(value, self.distributions[path]) for path, value in asked.items()}
            if proposed not in known:
                break
        return proposed

    def encoded(self, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """Values as the study keeps them; None where one lies outside of its range."""
        found = {}
        for path, distribution in self.distributions.items():
            value = values[path]
            if isinstance(distribution, CategoricalDistribution):
                value = next((text for text in distribution.choices if json.loads(str(text)) == value), None)
            if value is None or not distribution._contains(distribution.to_internal_repr(value)):
                return None
            found[path] = value
        return found


class Attempt(Protocol):
    """One training of a trial."""

    def train(self) -> float:
        """The trial's value; PrunedError or HopelessError when it has none."""
        ...

    def ended(self, ended: Ended) -> None:
        """Is told what the study knows of the trial now."""
        ...


def work(
    study: Study,
    most: int,
    attempt: Callable[[Trial], AbstractContextManager[Attempt]],
    first: Mapping[str, Any] | None = None,
) -> None:
    """Train trial after trial until each of the first `most` is taken.

    Errors other than PrunedError and HopelessError end the work; the trial stays, for who works next to take up again.
    """
    while (trial := study.claim(most, first)) is not None:
        began = time.monotonic()
        with attempt(trial) as under_way:
            value, reason = None, ""
            try:
                value = under_way.train()
            except (PrunedError, HopelessError) as error:
                reason = f"{'pruned' if isinstance(error, PrunedError) else 'failed'}: {error}"
            trial.asked.set_user_attr(SECONDS, round(time.monotonic() - began, 1))
            study.tell(trial, value, reason)
            under_way.ended(next(ended for ended in study.ended() if ended.number == trial.number))


def _storage(file: Path) -> JournalStorage:
    """Optuna's journal: a line of JSON a change, so that only the last can be half there; it is cut off then."""
    lock = _Lock(file.with_suffix(".lock"))
    backend = JournalFileBackend(str(file), lock)
    lock.acquire()
    with file.open("rb+") as journal:
        content = journal.read()
        journal.truncate(content.rfind(b"\n") + 1)
    lock.release()
    return JournalStorage(backend)


class _Lock(JournalFileOpenLock):
    """A lock of the kernel's, which ends with the process that holds it; Optuna's own outlives it by 30 s."""

    def __init__(self, file: Path) -> None:
        super().__init__(str(file))
        self.file, self.held = file, -1

    def acquire(self) -> bool:
        self.held = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(self.held, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        os.close(self.held)


def _distribution(span: RangeParams, is_whole: bool) -> BaseDistribution:
    if span.choices is not None:
        return CategoricalDistribution([json.dumps(choice) for choice in span.choices])  # lists, too
    assert span.low is not None and span.high is not None
    if is_whole:
        return IntDistribution(int(span.low), int(span.high), span.log, int(span.step or 1))
    return FloatDistribution(float(span.low), float(span.high), span.log, span.step)


def _short(value: Any, distribution: BaseDistribution) -> Any:
    """A real number with four digits, so that it can be written down; within its range."""
    if not isinstance(distribution, FloatDistribution):
        return value
    return min(max(float(f"{value:.4g}"), distribution.low), distribution.high)


def _pruner(params: PrunerParams) -> BasePruner:
    warmup = round(params.warmup * WHOLE)
    if params.name == "median":
        return MedianPruner(n_startup_trials=params.startup_trials, n_warmup_steps=warmup)
    if params.name == "hyperband":
        return HyperbandPruner(max(1, warmup), WHOLE, params.reduction)
    return NopPruner()


def _seed(*parts: int) -> int:
    """A seed of 32 bits that has nothing in common with that of other numbers, near as they may be."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def _sampler(params: SamplerParams, seed: int) -> BaseSampler:
    if params.name == "random":
        return RandomSampler(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return TPESampler(n_startup_trials=params.startup_trials, multivariate=True, constant_liar=True, seed=seed)


def _this_process() -> dict[str, Any]:
    return {"host": platform.node(), "pid": os.getpid(), "started": start_mark(os.getpid())}


def _is_worked_on(trial: FrozenTrial) -> bool:
    """Whether the process that has a trial is still alive, as far as can be told from here."""
    process = trial.user_attrs[PROCESS]
    return process["host"] != platform.node() or is_alive(process["pid"], process["started"])


def _decoded(trial: FrozenTrial) -> dict[str, Any]:
    is_choice = {path: isinstance(kind, CategoricalDistribution) for path, kind in trial.distributions.items()}
    return {path: json.loads(value) if is_choice[path] else value for path, value in trial.params.items()}


def _ended(trial: FrozenTrial) -> Ended:
    reason = trial.user_attrs.get(REASON, "")
    state = "complete" if trial.state == TrialState.COMPLETE else reason.partition(":")[0]
    value = trial.value if state == "complete" else max(trial.intermediate_values.values(), default=None)
    seconds = trial.user_attrs.get(SECONDS, 0.0)
    run, is_first = trial.user_attrs.get(RUN, ""), trial.user_attrs.get(FIRST, False)
    return Ended(trial.number, state, value, _decoded(trial), seconds, reason.partition(": ")[2], run, is_first)
