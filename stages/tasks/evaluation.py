"""A task's models measured on the test split: before, after and from scratch, with intervals and paired differences."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from stages.data.dataset import Dataset
from stages.data.samples import Images, StoredImages
from stages.metrics import bootstrap
from stages.models import folder
from stages.params.files import replacing_folder
from stages.params.task import EvaluationParams, TaskParams
from stages.tasks import task as tasks
from stages.tasks.trained import Trained, predict
from stages.training.loop import device

MODELS = Path("models")
FEW_IMAGES = 20  # of fewer, resamples are too alike


@dataclass(frozen=True)
class Evaluation:
    """What was measured; metrics by model, each the state of its predictions: before, after, perhaps scratch."""

    key: str
    task: tasks.Task
    params: TaskParams
    images: Images
    metrics: Mapping[str, Any]
    histories: Mapping[str, list[dict[str, float]]]
    comparison: Mapping[str, Any]
    seed: int
    training: Mapping[str, Any]  # how the fine-tuned model was trained

    @property
    def settings(self) -> EvaluationParams:
        """The section `evaluation` of the task."""
        return self.params.evaluation

    @cached_property
    def _places(self) -> dict[str, int]:
        return {self.images.value("key", i): i for i in range(len(self.images))}

    def image(self, key: str) -> np.ndarray:
        """One test image, uint8 [H, W, 3]."""
        return self.images.image(self._places[key]).decode().permute(1, 2, 0).numpy()

    def column(self, name: str) -> dict[str, Any]:
        """Key -> what a column of the index says of the image."""
        return {key: self.images.value(name, place) for key, place in self._places.items()}

    def worst_keys(self) -> list[str]:
        """Images that the fine-tuned model does worst on."""
        return self.metrics["after"].worst(self.settings.num_pictures // 2)

    def random_keys(self) -> list[str]:
        """As many images drawn at random."""
        keys = sorted(self._places)
        count = min(len(keys), self.settings.num_pictures // 2)
        return [keys[i] for i in np.random.default_rng(self.seed).choice(len(keys), count, replace=False)]

    def report(self) -> dict[str, Any]:
        """reports/evaluate/KEY.json: numbers of each model, intervals, paired differences, and what they say."""
        models = {
            name: metric.compute() | {"intervals": self.comparison[name]} for name, metric in self.metrics.items()
        }
        return {
            "task": self.key,
            "kind": self.params.kind,
            "dataset": self.params.dataset,
            "backbone": self.params.backbone,
            "split": "test",
            "num_images": len(self.images),
            "main_metric": self.task.main_metric,
            "resamples": self.settings.resamples,
            "confidence": self.settings.confidence,
            "training": dict(self.training),
            **models,
            "differences": self.comparison["differences"],
            "findings": findings(
                self.comparison["differences"], self.task.main_metric, self.settings.confidence, len(self.images)
            ),
        }


def evaluate(key: str, params: TaskParams, dataset: Dataset, seed: int) -> Evaluation:
    """Measure the models of a task on the test split; ValueError when the dataset has none."""
    if "test" not in dataset.splits:
        raise ValueError(f"dataset {dataset.name} has no test split: ingest it with --split train=0.8,val=0.1,test=0.1")
    task = tasks.build(params, dataset.classes, dataset.skeleton)
    images = StoredImages(dataset, "test", *task.columns)
    metrics = {}
    for name, model in _models(key, params, task, dataset):
        print(f"measuring {name} on {len(images)} test images", flush=True)
        metrics[name] = measure(task, model, images)
    resampled = {name: metric.resampled() for name, metric in metrics.items()}
    settings = params.evaluation
    comparison = bootstrap.compare(resampled, settings.resamples, settings.confidence, seed)
    return Evaluation(key, task, params, images, metrics, dict(_histories(key)), comparison, seed, _training(key))


def _training(key: str) -> dict[str, Any]:
    """How a model was adapted; what it cost in time and memory is no function of the inputs, and is in MLflow."""
    facts = folder.facts(MODELS / key)
    return {"adaptation": facts["params"]["adaptation"], "trainable_percent": facts["trainable_percent"]}


def measure(task: tasks.Task, model: nn.Module, images: Images) -> Any:
    """The task's metric of a model over images with truth."""
    metric = task.metric()
    metric.update(*predict(task, model, task.samples(images)))
    return metric


def _models(key: str, params: TaskParams, task: tasks.Task, dataset: Dataset) -> Iterator[tuple[str, nn.Module]]:
    """One model at a time; the control is there only where the task asks for it."""
    backbone = folder.read_backbone(MODELS / params.backbone)
    yield "before", task.untrained(backbone.to(device()), StoredImages(dataset, "train", *task.columns)).to(device())
    yield "after", Trained(MODELS / key).model.to(device())
    if params.control:
        yield "scratch", Trained(MODELS / f"{key}.control").model.to(device())


def _histories(key: str) -> Iterator[tuple[str, list[dict[str, float]]]]:
    for name, path in (("fine-tuned", MODELS / key), ("from scratch", MODELS / f"{key}.control")):
        history = folder.history(path)
        if history:
            yield name, history


def findings(differences: Mapping[str, Any], metric: str, confidence: float, num_images: int) -> list[str]:
    """What the paired differences of a metric say, in words.

    A percentile interval of few images is too narrow (Efron & Tibshirani 1993, chapter 14), which is said too.
    """
    meaning = {"after-before": "fine-tuning", "after-scratch": "pretraining"}
    sentences = []
    for name, subject in meaning.items():
        difference = differences.get(name, {}).get(metric)
        if difference is None or difference["low"] is None:
            continue
        span = f"{metric} {difference['value']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]"
        if difference["low"] > 0:
            verdict = f"{subject} helps"
        elif difference["high"] < 0:
            verdict = f"{subject} hurts"
        else:
            verdict = f"no evidence that {subject} helps"
        sentences.append(f"{verdict}: {span} at {confidence:.0%} confidence")
    if sentences and num_images < FEW_IMAGES:
        sentences.append(f"the test split has only {num_images} images: such intervals are too narrow")
    return sentences


def write(evaluation: Evaluation, report: Path, pictures: Path) -> dict[str, Any]:
    """Write the report and, in a folder beside it, pictures and predictions; each whole or not at all."""
    content = evaluation.report()
    with replacing_folder(pictures) as temporary:
        draw(evaluation, temporary)
        evaluation.task.write_results(evaluation, temporary)
        folder.write_json(report, content)
    return content


def draw(evaluation: Evaluation, target: Path) -> None:
    """The pictures that every task has: training curves, the comparison of its models, the worst and random images."""
    from stages.pictures import bars, curves, predictions

    history = curve_series(evaluation.histories, evaluation.task.curve_metrics)
    smoothing = {quantity: 0.8 for quantity in history if quantity.startswith("loss")}
    (target / "curves.png").write_bytes(curves.curves(history, smoothing))
    (target / "comparison.png").write_bytes(bars.comparison(evaluation.comparison))
    for name, keys in (("worst", evaluation.worst_keys()), ("random", evaluation.random_keys())):
        drawn = [evaluation.task.draw(evaluation, key) for key in keys]
        if drawn:
            sheet = predictions.contact_sheet(drawn, keys, columns=1 if drawn[0].width > 900 else 4)
            (target / f"{name}.png").write_bytes(predictions.png(sheet))


def curve_series(
    histories: Mapping[str, list[dict[str, float]]], metrics: Sequence[str]
) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Histories as one panel a quantity and one line a training: losses, learning rate, the named metrics."""
    shown = ("lr", *(f"val_{name}" for name in metrics))
    series: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for training, history in histories.items():
        for entry in history:
            for quantity, value in entry.items():
                if quantity.startswith("loss") or quantity in shown:
                    series.setdefault(quantity, {}).setdefault(training, []).append((entry["step"], value))
    return series
