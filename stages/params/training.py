"""`training`: how the one loop trains, the same for pretraining and for every task."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from stages.params.section import Fraction, Section

_MOVED = {
    "freeze": "write `adaptation: head` (it was: backbone) or `adaptation: {mode: last_k, k: 4 - stages}` beside "
    "`training` of a task, and nothing for none",
    "freeze_norm": "write `adaptation: bn_frozen` beside `training` of a task, or `freeze_norm` in its mode last_k",
}


class OptimizerParams(Section):
    """The optimizer; weight decay is never applied to norms and biases."""

    name: Literal["sgd", "adam", "adamw"] = "adamw"
    lr: float = Field(1e-3, gt=0, le=100, description="peak learning rate")
    backbone_lr_ratio: float = Field(1.0, gt=0, le=10, description="its learning rate over the head's")
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd only; Nesterov")
    beta2: float = Field(0.999, gt=0, lt=1, description="adam and adamw only")
    weight_decay: float = Field(0.01, ge=0, le=1)


class ScheduleParams(Section):
    """Learning rate over the steps: a linear warm-up, then a decay."""

    name: Literal["constant", "cosine", "step"] = "cosine"
    warmup_steps: int = Field(0, ge=0)
    milestones: tuple[Fraction, ...] = Field((0.6, 0.85), description="step only: shares of the steps where lr falls")
    gamma: float = Field(0.1, gt=0, le=1, description="step only: factor at each milestone")
    final_ratio: Fraction = Field(0.0, description="cosine only: last learning rate over peak")


class EarlyStoppingParams(Section):
    """Stop when the task's own validation metric no longer rises; the best weights are kept."""

    patience: int = Field(5, ge=1, description="evaluations without improvement")
    min_delta: float = Field(0.0, ge=0, description="what counts as improvement, in units of the metric")


class TrainingParams(Section):
    """Length, optimizer and regularisation of one training."""

    steps: int | None = Field(None, ge=1, description="optimizer steps; or give epochs")
    epochs: float | None = Field(None, gt=0, description="passes over the train split; or give steps")
    batch_size: int = Field(32, ge=1, description="images a step")
    accumulate: int = Field(1, ge=1, description="parts a batch is split into, gradients summed")
    optimizer: OptimizerParams = Field(default_factory=OptimizerParams)
    schedule: ScheduleParams = Field(default_factory=ScheduleParams)
    clip_grad_norm: float | None = Field(None, gt=0, description="largest gradient norm; null: off")
    ema_decay: float | None = Field(None, gt=0, lt=1, description="moving average of the weights; null: off")
    precision: Literal["fp32", "bf16"] = "bf16"
    channels_last: bool = True
    validate_every: int | None = Field(None, ge=1, description="steps between evaluations; null: only at the end")
    early_stopping: EarlyStoppingParams | None = None
    log_every: int = Field(10, ge=1, description="steps between two logged losses")

    @model_validator(mode="before")
    @classmethod
    def _without_freezing(cls, content: Any) -> Any:
        """What older files say of freezing is told in today's words."""
        moved = [key for key in _MOVED if isinstance(content, Mapping) and key in content]
        if moved:
            raise ValueError("\n".join(f"{key} is no key any more: {_MOVED[key]}" for key in moved))
        return content

    @model_validator(mode="after")
    def _consistent(self) -> "TrainingParams":
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of steps and epochs")
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate}")
        if self.early_stopping and self.validate_every is None:
            raise ValueError("early_stopping needs validate_every")
        return self
