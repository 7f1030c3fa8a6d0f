"""The contract of pretraining: a task's, with a model of its own whose `.backbone` is what is kept."""

import importlib
from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from stages.data.loader import Batch, Samples
from stages.data.samples import Images
from stages.models.backbones import Backbone
from stages.params.backbone import BackboneParams


class Objective(Protocol):
    """One way to pretrain; the module stages/objectives/NAME.py has one such class, called Objective."""

    main_metric: str
    curve_metrics: tuple[str, ...]
    columns: tuple[str, ...]

    def __init__(self, params: BackboneParams, classes: Sequence[str]) -> None: ...

    def samples(self, images: Images, augment_seed: int | None = None) -> Samples: ...

    def model(self, backbone: Backbone) -> nn.Module: ...

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]: ...

    def predict(self, model: nn.Module, batch: Batch) -> list[Any]: ...

    def metric(self) -> Any: ...


def build(params: BackboneParams, classes: Sequence[str]) -> Objective:
    """The objective that a backbone's section names."""
    return importlib.import_module(f"stages.objectives.{params.objective}").Objective(params, classes)
