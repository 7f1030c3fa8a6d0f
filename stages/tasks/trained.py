"""A fine-tuned model on disk: models/TASK."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stages.data.loader import Loader, Samples, normalised
from stages.data.samples import LooseImages
from stages.models import backbones, folder
from stages.models.adaptation.adapt import restore
from stages.models.weights import load_weights
from stages.params.document import task_section
from stages.params.skeleton import Skeleton
from stages.tasks import task as tasks


class Trained:
    """A task with its trained model, ready to predict."""

    def __init__(self, path: Path) -> None:
        facts = folder.facts(path)
        params, skeleton = task_section(facts["params"]), Skeleton.from_json(facts.get("skeleton"))
        self.task = tasks.build(params, facts["classes"], skeleton)
        self.model: nn.Module = self.task.model(backbones.build(facts["arch"], stem=facts["stem"]))
        restore(self.model, params.adaptation)
        report = load_weights(self.model, path / folder.WEIGHTS)
        if report.missing or report.mismatched:
            raise ValueError(f"{path} does not fit its own model.json: {report.summary()}")
        self.model.eval()

    def answers(
        self, files: Sequence[bytes], boxes_xyxy: Sequence[Sequence[float] | None] | None = None
    ) -> list[dict[str, Any]]:
        """Encoded images, and perhaps the box of each that is asked about, to plain JSON answers.

        ValueError names the first image that can't be read, or whose box is none.
        """
        if not files:
            return []
        predictions, _ = predict(self.task, self.model, self.task.samples(LooseImages(files, boxes_xyxy)))
        return [self.task.answer(prediction) for prediction in predictions]


@torch.no_grad()
def predict(task: tasks.Task, model: nn.Module, samples: Samples, batch_size: int = 16) -> tuple[list[Any], list[Any]]:
    """Predictions and targets of every sample, in order.

    In fp32 and eval mode, so that evaluate, predict and serve give the same numbers whatever trained the model.
    """
    model.eval()
    device = next(model.parameters()).device
    predictions: list[Any] = []
    targets: list[Any] = []
    for batch in Loader(samples, batch_size, seed=0).in_order():
        batch["images"] = normalised(batch["images"], device, False)
        predictions += task.predict(model, batch)
        targets += batch["target"]
    return predictions, targets
