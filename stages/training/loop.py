"""The one training loop: it asks an objective for losses and a metric, and never which task it trains."""

import math
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from stages.data.loader import Batch, Loader, normalised
from stages.models.adaptation.plan import Plan
from stages.params.training import TrainingParams
from stages.training import optim
from stages.training.checkpoint import Checkpoint
from stages.training.ema import WeightAverage
from stages.training.throughput import Throughput

# Seconds between two checkpoints; the result does not depend on it.
SAVE_EVERY_S = float(os.environ.get("VISIONLINE_SAVE_EVERY_S", "20"))


class Metric(Protocol):
    """A state that is updated batch by batch and then computed."""

    def update(self, predictions: list[Any], targets: list[Any]) -> None: ...

    def compute(self) -> dict[str, Any]: ...


class Objective(Protocol):
    """What a training minimises and how its progress is measured: a task, or a way to pretrain."""

    main_metric: str  # the key of the metric that early stopping watches; higher is better

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]: ...

    def predict(self, model: nn.Module, batch: Batch) -> list[Any]: ...

    def metric(self) -> Metric: ...


class Monitor(Protocol):
    """Who is told of the progress."""

    def losses(self, step: int, steps: int, values: dict[str, float]) -> None: ...

    def metrics(self, step: int, steps: int, values: dict[str, float]) -> None: ...


@dataclass
class Result:
    """What a training leaves beside the model's weights."""

    history: list[dict[str, float]] = field(default_factory=list)  # losses, learning rate or metrics of a step
    best_step: int = 0
    best_metric: float = -math.inf
    stopped_early: bool = False


def device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(params: TrainingParams) -> AbstractContextManager:
    """bf16 arithmetic where the parameters ask for it."""
    return torch.autocast(device().type, torch.bfloat16, enabled=params.precision == "bf16")


def num_steps(params: TrainingParams, num_samples: int) -> int:
    """Optimizer steps of a training."""
    if params.steps is not None:
        return params.steps
    assert params.epochs is not None
    return max(1, round(params.epochs * num_samples / params.batch_size))


def fit(
    objective: Objective,
    model: nn.Module,
    train: Loader,
    val: Loader | None,
    params: TrainingParams,
    checkpoint: Checkpoint,
    monitor: Monitor,
    plan: Plan = Plan(),
) -> Result:
    """Train a model in place; it ends with its best weights (or their average), in eval mode.

    The result depends on seed, data and parameters alone: an interrupted training goes on from its checkpoint and
    ends with the same bits. plan: how the model's backbone is adapted. Raises FloatingPointError when a loss is not
    finite.
    """
    training = _Training(objective, model, train, val, params, checkpoint, monitor, plan)
    training.resume()
    training.run()
    return training.finish()


class _Training:
    """The state of one training."""

    def __init__(
        self,
        objective: Objective,
        model: nn.Module,
        train: Loader,
        val: Loader | None,
        params: TrainingParams,
        checkpoint: Checkpoint,
        monitor: Monitor,
        plan: Plan,
    ) -> None:
        self.objective, self.train, self.val = objective, train, val
        self.params, self.checkpoint, self.monitor, self.plan = params, checkpoint, monitor, plan
        layout = torch.channels_last if params.channels_last else torch.contiguous_format
        self.model = model.to(device()).to(memory_format=layout)
        self.optimizer = optim.build(model, params.optimizer, plan.lr_scale)
        self.average = WeightAverage(model, params.ema_decay) if params.ema_decay else None
        self.steps = num_steps(params, len(train.samples))
        self.step, self.num_worse = 0, 0
        self.result = Result()
        self.best: dict[str, Tensor] | None = None

    def run(self) -> None:
        """Step until the end or until the metric stops rising."""
        batches = self.train.shuffled(self.step)
        throughput = Throughput(self.train)
        saved_at = time.monotonic()
        try:
            while self.step < self.steps and not self.result.stopped_early:
                losses = self._step(next(batches), throughput)
                self.step += 1
                self._log(losses, throughput)
                if self._is_due():
                    self._validate()
                    throughput.restart()
                if time.monotonic() - saved_at > SAVE_EVERY_S:
                    self._save()
                    saved_at = time.monotonic()
        finally:
            batches.close()  # type: ignore[attr-defined]  # a generator: ends its decoding threads

    def _step(self, batch: Batch, throughput: Throughput) -> dict[str, float]:
        """One optimizer step; returns the losses, averaged over the parts of the batch."""
        # Dropout and the sampling of proposals draw from torch's generator: a resumed run must draw the same.
        torch.manual_seed(self.train.seed * 1_000_003 + self.step)
        self.plan.at(self.step, self.steps)
        self.model.train()
        ratio = optim.lr_ratio(self.step, self.steps, self.params.schedule)
        optim.set_lr(self.optimizer, ratio)
        self.optimizer.zero_grad(set_to_none=True)
        totals: dict[str, Tensor] = {}
        with throughput.step(self.step, len(batch["images"])):
            for part in self._parts(batch):
                for name, value in self._backward(part).items():
                    totals[name] = totals.get(name, torch.zeros((), device=value.device)) + value.detach()
            if self.params.clip_grad_norm:
                nn.utils.clip_grad_norm_(optim.trainable(self.model), self.params.clip_grad_norm)
            losses = {name: float(value) / self.params.accumulate for name, value in totals.items()}
            self._check_finite(losses)
            self.optimizer.step()
            if self.average:
                self.average.update(self.model)
        return losses | {"lr": self.params.optimizer.lr * ratio}

    def _parts(self, batch: Batch) -> Iterator[Batch]:
        """The batch, on the device, in as many parts as gradients are accumulated over."""
        size = math.ceil(len(batch["images"]) / self.params.accumulate)
        for start in range(0, len(batch["images"]), size):
            yield self._on_device({key: values[start : start + size] for key, values in batch.items()})

    def _on_device(self, batch: Batch) -> Batch:
        return batch | {"images": normalised(batch["images"], device(), self.params.channels_last)}

    def _backward(self, batch: Batch) -> dict[str, Tensor]:
        with autocast(self.params):
            losses = self.objective.loss(self.model, batch)
        (torch.stack([loss.float() for loss in losses.values()]).sum() / self.params.accumulate).backward()
        return losses

    def _check_finite(self, losses: dict[str, float]) -> None:
        wrong = {name: value for name, value in losses.items() if not math.isfinite(value)}
        if wrong:
            name, value = next(iter(wrong.items()))
            raise FloatingPointError(
                f"loss {name} is {value} at step {self.step + 1} of {self.steps} "
                f"(lr {self.params.optimizer.lr:g}): lower training.optimizer.lr or set training.clip_grad_norm"
            )

    def _log(self, losses: dict[str, float], throughput: Throughput) -> None:
        if self.step % self.params.log_every == 0 or self.step == self.steps:
            self.result.history.append({"step": self.step, **losses})
            self.monitor.losses(self.step, self.steps, losses | throughput.rates())

    def _is_due(self) -> bool:
        every = self.params.validate_every
        return self.val is not None and (self.step == self.steps or bool(every and self.step % every == 0))

    def _validate(self) -> None:
        """Measure on the validation split; keep the best weights, count how long there was no better."""
        present = self._swap(self.average.state if self.average else None)
        assert self.val is not None
        metrics = scalars(measure(self.objective, self.model, self.val, self.params).compute())
        if self.objective.main_metric not in metrics:
            raise ValueError(f"{self.objective.main_metric} is undefined on the validation split: there is no truth")
        value = metrics[self.objective.main_metric]
        stopping = self.params.early_stopping
        if value > self.result.best_metric + (stopping.min_delta if stopping else 0.0) or self.best is None:
            self.result.best_metric, self.result.best_step, self.num_worse = value, self.step, 0
            self.best = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        else:
            self.num_worse += 1
        self.result.stopped_early = bool(stopping and self.num_worse >= stopping.patience and self.step < self.steps)
        self._swap(present)
        self.result.history.append({"step": self.step, **{f"val_{k}": v for k, v in metrics.items()}})
        self.monitor.metrics(self.step, self.steps, {f"val_{k}": v for k, v in metrics.items()})

    def _swap(self, state: dict[str, Tensor] | None) -> dict[str, Tensor] | None:
        """Give the model another state; returns the one it had."""
        if state is None:
            return None
        present = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        self.model.load_state_dict(state)
        return present

    def _save(self) -> None:
        self.checkpoint.save(
            {
                "step": self.step,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.average.state_dict() if self.average else None,
                "best": self.best,
                "num_worse": self.num_worse,
                "result": vars(self.result),
            }
        )

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one."""
        saved = self.checkpoint.load()
        if saved is None:
            return
        self.step, self.num_worse = saved["step"], saved["num_worse"]
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.average:
            self.average.load_state_dict(saved["average"])
        self.best = saved["best"]
        self.result = Result(**saved["result"])

    def finish(self) -> Result:
        """Give the model its final weights: the best measured ones, else the average, else the last."""
        final = self.best if self.best is not None else (self.average.state if self.average else None)
        self._swap(final)
        self.model.eval()
        if self.best is None:
            self.result.best_step = self.step
        return self.result


@torch.no_grad()
def measure(objective: Objective, model: nn.Module, loader: Loader, params: TrainingParams) -> Metric:
    """The metric of a model over every sample of a loader."""
    model.eval()
    metric = objective.metric()
    for batch in loader.in_order():
        batch["images"] = normalised(batch["images"], device(), params.channels_last)
        with autocast(params):
            predictions = objective.predict(model, batch)
        metric.update(predictions, batch["target"])
    return metric


def scalars(metrics: dict[str, Any]) -> dict[str, float]:
    """The plain numbers among a metric's results; a number that is undefined (None) is left out."""
    return {name: float(value) for name, value in metrics.items() if isinstance(value, int | float)}
