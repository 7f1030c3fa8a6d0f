"""A trial: the task trained as `finetune` trains it, on the train split, judged by the val split; no model is kept."""

import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from stages.data.dataset import Dataset
from stages.models import folder
from stages.params.task import TaskParams
from stages.tasks import task as tasks
from stages.tracking.runs import StageRun
from stages.tracking.trials import TrialRun, trial_run
from stages.training import session
from stages.training.progress import Progress
from stages.tuning.plan import Plan
from stages.tuning.study import Ended, HopelessError, Study, Trial

MODELS, DATA = Path("models"), Path("data")


class Judged(Progress):
    """The monitor of a trial: each validation is also told to a judge, who may end the training."""

    def __init__(self, run: StageRun, task: tasks.Task, judge: Callable[[float, float], None]) -> None:
        super().__init__(run, task.curve_metrics)
        self.main_metric, self.judge = task.main_metric, judge

    def metrics(self, step: int, steps: int, values: dict[str, float]) -> None:
        """Metrics of the validation split."""
        super().metrics(step, steps, values)
        self.judge(step / steps, values[f"val_{self.main_metric}"])


class Attempt:
    """One training of a trial in this process."""

    def __init__(self, plan: Plan, study: Study, trial: Trial, run: TrialRun, most: int) -> None:
        self.plan, self.study, self.trial, self.run, self.most = plan, study, trial, run, most

    def train(self) -> float:
        """The best value of the main metric over the validations.

        PrunedError when others did better; HopelessError when the values do not go together, a loss or a prediction is
        not finite, or the GPU's memory is too small for them.
        """
        try:
            params = self.plan.params(self.trial.values)
        except ValueError as error:
            raise HopelessError(str(error)) from None
        self.run.log_params({"trial": self.trial.values, "seed": self.plan.seed, **params.model_dump(mode="json")})
        self.run.log_dataset(params.dataset, "tuning")
        try:
            value = self._trained(params)
        except (FloatingPointError, torch.OutOfMemoryError) as error:
            raise HopelessError(str(error)) from None
        except ValueError as error:
            if not self.study.ended():
                raise  # nothing ever went well: it need not be for the values
            raise HopelessError(str(error)) from None
        if not math.isfinite(value):
            raise HopelessError(f"the metric is {value}")
        return value

    def _trained(self, params: TaskParams) -> float:
        session.prepare_torch(self.plan.seed, self.plan.cpu_threads)
        dataset = Dataset(DATA / params.dataset)
        task, model, adapted = tasks.prepare(params, dataset, folder.read_backbone(MODELS / params.backbone))
        self.study.note_metric(task.main_metric)
        progress = Judged(self.run, task, lambda share, value: self.study.judge(self.trial, share, value))
        result = session.train(task, model, dataset, params.training, self.plan.seed, self.run, adapted, progress)
        self.run.log_metrics({f"best_{task.main_metric}": result.best_metric}, result.best_step)
        return result.best_metric

    def ended(self, ended: Ended) -> None:
        """Say what became of the trial, here and in MLflow, and drop its checkpoint."""
        if ended.state != "complete":
            self.run.ends(ended.state, ended.reason)
        forget(self.run.name)
        print(told(ended, self.study.ended(), self.most), flush=True)


@contextmanager
def attempt(plan: Plan, study: Study, parent: str, most: int, trial: Trial) -> Iterator[Attempt]:
    """A trial with its run in MLflow; parent: the run of the study."""
    check(Plan.read(plan.key), plan.file)
    again = ", again: its process died" if trial.is_again else ""
    print(f"trial {trial.number} of {most}{again}: {shown(trial.values)}", flush=True)
    with trial_run(plan.key, study.name, parent, trial.number, plan.dep_hashes) as run:
        study.note_run(trial, run.run_id)
        yield Attempt(plan, study, trial, run, most)


def check(plan: Plan, file: Path) -> None:
    """ValueError when the study that a plan is of lies elsewhere: what it rests on has changed."""
    if plan.file != file:
        raise ValueError(f"data, backbone or parameters of {plan.key} changed while it was tuned: start again")


def forget(name: str) -> None:
    """Delete the checkpoints of a trial's run."""
    for checkpoint in session.CHECKPOINTS.glob(f"{name}-*"):
        shutil.rmtree(checkpoint, ignore_errors=True)


def shown(values: Mapping[str, Any]) -> str:
    """Values in a line, each under the last part of its key."""
    return "  ".join(f"{path.rpartition('.')[2]} {value}" for path, value in values.items())


def told(ended: Ended, all_ended: list[Ended], most: int) -> str:
    """A line about a trial, the best so far, and the time left."""
    value = "no value" if ended.value is None else f"{ended.value:.4f}"
    what = f"{ended.state} with {value} after {ended.seconds:.0f} s"
    what += f" ({ended.reason})" if ended.reason else ""
    complete = [other for other in all_ended if other.state == "complete" and other.value is not None]
    best = max(complete, key=lambda other: other.value or 0.0, default=None)
    left = most - len(all_ended)
    left_s = sum(other.seconds for other in all_ended) / len(all_ended) * left
    rest = f"; about {left_s / 60:.0f} min left" if left and left_s > 90 else f"; about {left_s:.0f} s left"
    best_told = f"; best {best.value:.4f} of trial {best.number}" if best else ""
    return f"trial {ended.number} {what}{best_told}; {len(all_ended)} of {most} done{rest if left > 0 else ''}"
