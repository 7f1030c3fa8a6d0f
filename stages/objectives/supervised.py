"""Supervised pretraining: cross-entropy over the classes of an ImageNet-style dataset."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.data.loader import Batch
from stages.data.mixing import mixed
from stages.data.samples import Images
from stages.data.targets.classification import ClassificationSamples
from stages.metrics.classification import ClassificationMetric, Prediction
from stages.models.backbones import Backbone
from stages.models.classifier import Classifier
from stages.params.backbone import BackboneParams


class Objective:
    """The published classifier of the architecture, its auxiliary heads included."""

    main_metric = "top1"
    curve_metrics = ("top1", "top5", "nll")
    columns = ("labels",)

    def __init__(self, params: BackboneParams, classes: Sequence[str]) -> None:
        self.params, self.classes = params, tuple(classes)

    def samples(self, images: Images, augment_seed: int | None = None) -> ClassificationSamples:
        """Items with `target`: the class number."""
        return ClassificationSamples(images, self.classes, self.params.image_px, self.params.augmentation, augment_seed)

    def model(self, backbone: Backbone) -> nn.Module:
        """The backbone with its classifier."""
        backbone.set_drop_path(self.params.drop_path)
        return Classifier(backbone, len(self.classes), self.params.dropout)

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy, and that of each auxiliary head times its published weight (Szegedy et al. 2015)."""
        targets = torch.tensor(batch["target"], device=batch["images"].device)
        images, targets = mixed(batch["images"], targets, len(self.classes), self.params.augmentation)
        logits = model(images)
        losses = {"loss": self._cross_entropy(logits.main, targets)}
        for i, (weight, scores) in enumerate(logits.auxiliary, start=1):
            losses[f"loss_auxiliary{i}"] = weight * self._cross_entropy(scores, targets)
        return losses

    def _cross_entropy(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits.float(), targets, label_smoothing=self.params.label_smoothing)

    def predict(self, model: nn.Module, batch: Batch) -> list[Prediction]:
        """Probabilities of the classes."""
        probabilities = model(batch["images"]).main.float().softmax(1).cpu().numpy()
        return [Prediction(key, row) for key, row in zip(batch["key"], probabilities, strict=True)]

    def metric(self) -> ClassificationMetric:
        """Top-1, top-5, per class, calibration, confusion."""
        return ClassificationMetric(self.classes)
