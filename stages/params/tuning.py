"""`tuning.TASK`: what `visionline tune` tries. No stage depends on it, so a change trains nothing."""

import copy
import difflib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, get_args

from pydantic import BaseModel, Field, model_validator

from stages.params.section import Fraction, Section

# What a task is, and how it is measured afterwards: no training gets better by it.
FIXED = ("kind", "dataset", "backbone", "control", "evaluation")
NUM_NEAR = 3


class RangeParams(Section):
    """The values that a key may take: from low to high, or one of some choices."""

    low: int | float | None = Field(None, description="smallest value; give high, too")
    high: int | float | None = Field(None, description="largest value")
    log: bool = Field(False, description="evenly on a logarithmic scale, as for learning rates")
    step: int | float | None = Field(None, gt=0, description="between two neighbouring values; null: any, or 1")
    choices: tuple[Any, ...] | None = Field(None, description="instead of low and high: at least two values")

    @model_validator(mode="after")
    def _consistent(self) -> "RangeParams":
        if self.choices is not None:
            if self.model_fields_set - {"choices"}:
                raise ValueError("give either choices, or low and high")
            if len({repr(choice) for choice in self.choices}) < max(2, len(self.choices)):
                raise ValueError("choices must be two or more values, each once")
            return self
        if self.low is None or self.high is None:
            raise ValueError("give low and high, or choices")
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"low {self.low:g} must be above 0 on a logarithmic scale")
        if self.log and self.step is not None:
            raise ValueError("a logarithmic scale has no step")
        if self.step is not None and self.step > self.high - self.low:
            raise ValueError(f"step {self.step:g} leaves low as the only value")
        return self

    def named_values(self) -> dict[str, Any]:
        """What must be valid for all between it to be valid: the two ends, or each choice."""
        if self.choices is not None:
            return {f"choice {choice!r}": choice for choice in self.choices}
        return {f"low {self.low!r}": self.low, f"high {self.high!r}": self.high}


class SamplerParams(Section):
    """How the next values are drawn; the seed is that of params.yaml with the number of the trial."""

    name: Literal["tpe", "random"] = Field("tpe", description="tpe learns from earlier trials (Bergstra et al. 2011)")
    startup_trials: int = Field(8, ge=1, le=1000, description="tpe only: drawn at random before it learns")


class PrunerParams(Section):
    """When a trial is stopped before its end, by the main metric at each of its validations."""

    name: Literal["median", "hyperband", "none"] = Field(
        "median", description="worse than the median at the same time; or Hyperband (Li et al. 2018)"
    )
    warmup: Fraction = Field(0.25, description="share of a training before which none is stopped")
    startup_trials: int = Field(5, ge=1, le=1000, description="median only: so many run to their end first")
    reduction: int = Field(3, ge=2, le=10, description="hyperband only: one in so many goes on at each decision")


class TuningParams(Section):
    """The search for better parameters of the task with this name."""

    trials: int = Field(20, ge=1, le=10000, description="in all; --trials of the command comes first")
    ranges: dict[str, RangeParams] = Field(min_length=1, description="key of the task, as training.optimizer.lr")
    overrides: dict[str, Any] = Field(
        default_factory=dict, description="keys that are otherwise in all trials, such as fewer steps"
    )
    sampler: SamplerParams = Field(default_factory=SamplerParams)
    pruner: PrunerParams = Field(default_factory=PrunerParams)

    def problems(
        self, task: Mapping[str, Any], section: type[BaseModel], errors: Callable[[Mapping[str, Any]], str | None]
    ) -> Iterator[str]:
        """What is wrong with the keys and their values, a line each.

        task: its entry in params.yaml, of this section. errors: says what is wrong with an entry, None for nothing.
        """
        known, sound = {p: v for p, v in fields(section).items() if p.partition(".")[0] not in FIXED}, True
        for group, paths in (("overrides", self.overrides), ("ranges", self.ranges)):
            for path in paths:
                if path.partition(".")[0] in FIXED:
                    yield f"{group}.{path}: is not for tuning: it decides no training"
                elif path not in known:
                    yield f"{group}.{path}: unknown key; near: {', '.join(_near(path, known))}"
                    sound &= group == "ranges"
        yield from (f"overrides.{path}: has a range, too" for path in self.overrides if path in self.ranges)
        entry = placed(task, self.overrides)
        if sound and (wrong := errors(entry)):
            yield f"overrides: {wrong}"
        elif sound:
            yield from self._wrong_values(entry, errors, [path for path in self.ranges if path in known])

    def _wrong_values(
        self, entry: Mapping[str, Any], errors: Callable[[Mapping[str, Any]], str | None], paths: list[str]
    ) -> Iterator[str]:
        for path in paths:
            for what, value in self.ranges[path].named_values().items():
                if wrong := errors(placed(entry, {path: value})):
                    yield f"ranges.{path}: {what}: {wrong}"


def fields(section: type[BaseModel], prefix: str = "") -> dict[str, bool]:
    """Dotted path of each value in a section and those in it -> whether it is a whole number, or no number at all."""
    found: dict[str, bool] = {}
    for name, field in section.model_fields.items():
        kinds = set(_kinds(field.annotation))
        inner = [kind for kind in kinds if issubclass(kind, BaseModel)]
        for kind in sorted(inner, key=lambda kind: kind.__name__):
            found |= fields(kind, f"{prefix}{name}.")
        if not inner:
            found[f"{prefix}{name}"] = float not in kinds
    return found


def _kinds(annotation: Any) -> Iterator[type]:
    """The classes that an annotation is made of."""
    if isinstance(annotation, type) and not get_args(annotation):
        yield annotation
    for argument in get_args(annotation):
        yield from _kinds(argument)


def _near(path: str, known: Mapping[str, bool]) -> list[str]:
    """Known paths like this one: those in it where it is a section, with its last name, then like it as a whole."""
    last = path.rpartition(".")[2]
    inside = [other for other in known if other.startswith(f"{path}.")]
    by_name = [other for other in known if difflib.get_close_matches(last, [other.rpartition(".")[2]], cutoff=0.75)]
    whole = difflib.get_close_matches(path, [*known], NUM_NEAR, cutoff=0.7)
    return [*dict.fromkeys(inside + by_name + whole)][:NUM_NEAR] or difflib.get_close_matches(
        path, known, NUM_NEAR, 0.0
    )


def placed(entry: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """An entry with other values at dotted paths."""
    result = copy.deepcopy(dict(entry))
    for path, value in values.items():
        *parents, key = path.split(".")
        section = result
        for parent in parents:
            if not isinstance(section.get(parent), dict):
                section[parent] = {}
            section = section[parent]
        section[key] = value
    return result


def value_at(entry: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path; None where there is none."""
    value: Any = entry
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
