"""Image classification: one label an image, or any number of them."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.data.loader import Batch, Loader, normalised
from stages.data.mixing import mixed
from stages.data.samples import Images
from stages.data.targets.classification import ClassificationSamples
from stages.data.targets.multilabel import MultiLabelSamples
from stages.metrics.classification import ClassificationMetric, Prediction
from stages.metrics.multilabel import MultiLabelMetric, Target
from stages.models.backbones import Backbone
from stages.models.classifier import Classifier
from stages.models.linear_probe import fit_linear
from stages.params.classification import Params
from stages.params.skeleton import Skeleton
from stages.tasks.task import Explained

if TYPE_CHECKING:
    from PIL.Image import Image

    from stages.tasks.evaluation import Evaluation


class Task:
    """A classifier on pooled features; with `multi_label` in its parameters it is a MultiLabelTask."""

    main_metric = "top1"
    curve_metrics = ("top1", "nll")
    columns = ("labels",)

    def __new__(cls, params: Params, classes: Sequence[str], skeleton: Skeleton = Skeleton()) -> "Task":
        """The kind has one name and one section; what an image's labels are decides between two."""
        return super().__new__(MultiLabelTask if params.multi_label else cls)

    def __init__(self, params: Params, classes: Sequence[str], skeleton: Skeleton = Skeleton()) -> None:
        self.params, self.classes = params, tuple(classes)

    def samples(self, images: Images, augment_seed: int | None = None) -> ClassificationSamples:
        """Items with `target`: the class number."""
        return ClassificationSamples(images, self.classes, self.params.image_px, self.params.augmentation, augment_seed)

    def model(self, backbone: Backbone) -> Classifier:
        """Pooled features, dropout, one linear layer."""
        return Classifier(backbone, len(self.classes), self.params.dropout, auxiliary=False)

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy, with the shares of the classes where images are mixed."""
        targets = self._stacked(batch["target"]).to(batch["images"].device)
        images, targets = mixed(batch["images"], targets, len(self.classes), self.params.augmentation)
        logits = model(images).main
        return {"loss": F.cross_entropy(logits.float(), targets, label_smoothing=self.params.label_smoothing)}

    def predict(self, model: nn.Module, batch: Batch) -> list[Prediction]:
        """Probabilities of the classes."""
        probabilities = model(batch["images"]).main.float().softmax(1).cpu().numpy()
        return [Prediction(key, row) for key, row in zip(batch["key"], probabilities, strict=True)]

    def metric(self) -> ClassificationMetric:
        """Top-1, top-5, per class, calibration, confusion."""
        return ClassificationMetric(self.classes)

    def answer(self, prediction: Prediction) -> dict[str, Any]:
        """The likeliest label and all probabilities, highest first."""
        order = np.argsort(-prediction.probabilities, kind="stable")
        scores = {self.classes[i]: float(prediction.probabilities[i]) for i in order}
        return {"label": self.classes[order[0]], "score": float(prediction.probabilities[order[0]]), "scores": scores}

    def prediction(self, key: str, answer: Mapping[str, Any]) -> Prediction:
        """An answer of any version, whose classes may be others, as a prediction for ours."""
        scores = answer["scores"]
        return Prediction(key, np.array([scores.get(name, 0.0) for name in self.classes], np.float32))

    def explained(self, model: nn.Module, batch: Batch) -> Explained:
        """The logit of the likeliest class."""
        logits = model(batch["images"]).main[0].float()
        best, target = int(logits.argmax()), batch["target"][0]
        truth = f", truth {self.classes[target]}" if target >= 0 else ""
        return Explained(logits[best], f"{self.classes[best]} {float(logits.detach().softmax(0)[best]):.2f}{truth}")

    def _stacked(self, targets: Sequence[Any]) -> Tensor:
        return torch.tensor(targets)

    @torch.no_grad()
    def untrained(self, backbone: Backbone, train: Images) -> nn.Module:
        """A linear probe: logistic regression on the frozen backbone's pooled features of the train split."""
        backbone.eval()
        model = self.model(backbone).eval()
        device = next(model.parameters()).device
        features, targets = [], []
        for batch in Loader(self.samples(train), batch_size=64, seed=0).in_order():
            features.append(backbone(normalised(batch["images"], device, False)).float())
            targets += batch["target"]
        weight, bias = fit_linear(
            torch.cat(features), self._stacked(targets).to(device), len(self.classes), self.params.probe
        )
        model.last_layer.weight.copy_(weight)
        model.last_layer.bias.copy_(bias)
        return model

    def draw(self, evaluation: "Evaluation", key: str) -> "Image":
        """A test image with its true label and the three likeliest."""
        from stages.pictures.predictions import draw_classifications

        prediction, target = evaluation.metrics["after"].samples[key]
        return draw_classifications(evaluation.image(key), target, prediction.probabilities, self.classes)

    def write_results(self, evaluation: "Evaluation", folder: Path) -> None:
        """predictions.csv, and pictures: confusion, reliability, classes."""
        from stages.pictures import bars, matrices

        numbers = evaluation.metrics["after"].compute()
        (folder / "confusion.png").write_bytes(matrices.confusion(numbers["confusion"], self.classes))
        (folder / "reliability.png").write_bytes(bars.reliability(numbers["reliability"], numbers["ece"]))
        measures = ("precision", "recall", "f1")
        (folder / "classes.png").write_bytes(bars.per_class(numbers["per_class"], measures))
        samples = evaluation.metrics["after"].samples
        with (folder / "predictions.csv").open("w", encoding="utf8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["key", "truth", *self.classes])
            for key in sorted(samples):
                prediction, target = samples[key]
                writer.writerow([key, self.classes[target], *map("{:.6f}".format, prediction.probabilities)])


class MultiLabelTask(Task):
    """A classifier that decides each class by itself."""

    main_metric = "map"
    curve_metrics = ("map", "micro_f1")

    def __init__(self, params: Params, classes: Sequence[str], skeleton: Skeleton = Skeleton()) -> None:
        super().__init__(params, classes, skeleton)
        self.columns = (params.labels_from,)

    def samples(self, images: Images, augment_seed: int | None = None) -> MultiLabelSamples:
        """Items with `target`: which classes are there."""
        params = self.params
        return MultiLabelSamples(
            params.labels_from, images, self.classes, params.image_px, params.augmentation, augment_seed
        )

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Binary cross-entropy, the mean over classes; smoothing moves each target towards one half."""
        targets, smoothing = self._stacked(batch["target"]).to(batch["images"].device), self.params.label_smoothing
        logits = model(batch["images"]).main.float()
        return {"loss": F.binary_cross_entropy_with_logits(logits, targets * (1 - smoothing) + smoothing / 2)}

    def predict(self, model: nn.Module, batch: Batch) -> list[Prediction]:
        """The probability of each class."""
        probabilities = model(batch["images"]).main.float().sigmoid().cpu().numpy()
        return [Prediction(key, row) for key, row in zip(batch["key"], probabilities, strict=True)]

    def metric(self) -> Any:
        """Mean average precision, F1, exact match, per class, calibration."""
        return MultiLabelMetric(self.classes, self.params.score_threshold)

    def answer(self, prediction: Prediction) -> dict[str, Any]:
        """The labels that are probable enough and all probabilities, both highest first."""
        order = np.argsort(-prediction.probabilities, kind="stable")
        scores = {self.classes[i]: float(prediction.probabilities[i]) for i in order}
        given = [{"label": name, "score": score} for name, score in scores.items() if score >= self._threshold]
        return {"labels": given, "scores": scores}

    def explained(self, model: nn.Module, batch: Batch) -> Explained:
        """The logit of the likeliest class."""
        logits, target = model(batch["images"]).main[0].float(), batch["target"][0]
        best = int(logits.argmax())
        truth = ", ".join(self.classes[i] for i in np.flatnonzero(target.is_present)) or "nothing"
        return Explained(
            logits[best], f"{self.classes[best]} {float(logits.detach().sigmoid()[best]):.2f}, truth {truth}"
        )

    def draw(self, evaluation: "Evaluation", key: str) -> "Image":
        """A test image with its true labels and the three likeliest."""
        from stages.pictures.predictions import draw_labels

        prediction, target = evaluation.metrics["after"].samples[key]
        image, truth = evaluation.image(key), np.flatnonzero(target.is_present).tolist()
        return draw_labels(image, truth, prediction.probabilities, self.classes, self._threshold)

    def write_results(self, evaluation: "Evaluation", folder: Path) -> None:
        """predictions.csv (the true labels between semicolons), and pictures: reliability, classes."""
        from stages.pictures import bars

        metric = evaluation.metrics["after"]
        numbers = metric.compute()
        (folder / "reliability.png").write_bytes(
            bars.reliability(numbers["reliability"], numbers["ece"], "each class", "decisions")
        )
        (folder / "classes.png").write_bytes(bars.per_class(numbers["per_class"], ("ap", "precision", "recall")))
        with (folder / "predictions.csv").open("w", encoding="utf8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["key", "truth", *self.classes])
            for key in sorted(metric.samples):
                prediction, target = metric.samples[key]
                truth = ";".join(self.classes[i] for i in np.flatnonzero(target.is_present))
                writer.writerow([key, truth, *map("{:.6f}".format, prediction.probabilities)])

    @property
    def _threshold(self) -> float:
        return self.params.score_threshold

    def _stacked(self, targets: Sequence[Target]) -> Tensor:
        return torch.from_numpy(np.stack([target.is_present for target in targets]).astype(np.float32))
