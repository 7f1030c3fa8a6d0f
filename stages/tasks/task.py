"""The contract of a task: what the stages and the loop ask of it, and nothing else."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

from stages.data.dataset import Dataset
from stages.data.loader import Batch, Samples
from stages.data.samples import Images
from stages.models.adaptation.adapt import adapt
from stages.models.adaptation.plan import Plan
from stages.models.backbones import Backbone
from stages.params.skeleton import Skeleton
from stages.params.task import TaskParams

if TYPE_CHECKING:
    from PIL.Image import Image

    from stages.tasks.evaluation import Evaluation


@dataclass(frozen=True, eq=False)
class Explained:
    """What a model says of one image, for saliency to explain."""

    score: Tensor | None  # a scalar with a gradient; None where nothing is found
    words: str
    box_xyxy: tuple[float, ...] | None = None  # what the score is of, pixels of the model's input


class Metric(Protocol):
    """A state that grows by update, joins another by merge, and gives numbers by compute."""

    def update(self, predictions: list[Any], targets: list[Any]) -> None: ...

    def merge(self, other: Any) -> None: ...

    def compute(self) -> dict[str, Any]: ...


class Task(Protocol):
    """One downstream task; the module stages/tasks/KIND.py has one such class, called Task."""

    main_metric: str  # key of the metric that decides; higher is better
    curve_metrics: tuple[str, ...]  # keys of the metrics that the training curves show, the main one among them
    columns: tuple[str, ...]  # what it needs of the dataset's index beside the images

    def __init__(self, params: Any, classes: Sequence[str], skeleton: Skeleton = ...) -> None: ...

    def samples(self, images: Images, augment_seed: int | None = None) -> Samples:
        """Images with their targets as the loader reads them; randomly varied if a seed is given."""
        ...

    def model(self, backbone: Backbone) -> nn.Module:
        """The backbone, reached as `.backbone` (read in training), with this task's neck and head."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Named scalars; their sum is minimised."""
        ...

    def predict(self, model: nn.Module, batch: Batch) -> list[Any]:
        """One record an image, in pixels of the original."""
        ...

    def metric(self) -> Metric:
        """An empty state of the task's metric; its targets are the samples' `target`."""
        ...

    def answer(self, prediction: Any) -> dict[str, Any]:
        """A prediction as plain JSON with class names, as `predict` prints it and the server sends it."""
        ...

    def prediction(self, key: str, answer: Mapping[str, Any]) -> Any:
        """An answer as a prediction again: how versions with other code and classes are measured on one test set."""
        ...

    def untrained(self, backbone: Backbone, train: Images) -> nn.Module:
        """The model that `before` measures: what the backbone is worth without fine-tuning."""
        ...

    def explained(self, model: nn.Module, batch: Batch) -> Explained:
        """What saliency explains of a batch of one image: the surest of what the model says, differentiable."""
        ...

    def draw(self, evaluation: "Evaluation", key: str) -> "Image":
        """A test image with its truth and the prediction of the fine-tuned model."""
        ...

    def write_results(self, evaluation: "Evaluation", folder: Path) -> None:
        """The predictions in the field's own format, and the pictures that only this task has."""
        ...


def build(params: TaskParams, classes: Sequence[str], skeleton: Skeleton = Skeleton()) -> Task:
    """The task of a section of params.yaml, by its kind, for a dataset's classes and joints."""
    return importlib.import_module(f"stages.tasks.{params.kind}").Task(params, classes, skeleton)


def prepare(params: TaskParams, dataset: Dataset, backbone: Backbone) -> tuple[Task, nn.Module, Plan]:
    """A task with its model as training starts from a backbone, and the plan of what of it trains."""
    task = build(params, dataset.classes, dataset.skeleton)
    backbone.set_drop_path(params.drop_path)
    model = task.model(backbone)
    return task, model, adapt(model, params.adaptation)
