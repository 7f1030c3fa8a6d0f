"""How well images are classified: accuracy, per-class precision and recall, calibration."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.metrics import calibration
from stages.metrics.bootstrap import ResampledMean


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a classifier says of one image."""

    key: str
    probabilities: NDArray[np.float32]  # [C], summing to 1


class ClassificationMetric:
    """A state over images that merges: the same numbers whatever the order of batches.

    A key that comes twice counts once (a distributed sampler fills its last batch with samples seen before).
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = tuple(class_names)
        self.samples: dict[str, tuple[Prediction, int]] = {}

    def update(self, predictions: Sequence[Prediction], targets: Sequence[int]) -> None:
        """Add images; targets are class indices.

        ValueError when a prediction is not [C] finite numbers, a target is no class, or a key's target changes.
        """
        for prediction, target in zip(predictions, targets, strict=True):
            self._check(prediction, target)
            self.samples.setdefault(prediction.key, (prediction, int(target)))

    def merge(self, other: "ClassificationMetric") -> None:
        """Add the images of another state."""
        pairs = other.samples.values()
        self.update([prediction for prediction, _ in pairs], [target for _, target in pairs])

    def compute(self) -> dict[str, Any]:
        """All numbers over the images so far, ready for JSON; null where a ratio has nothing to divide by.

        top5 is top-C for fewer than five classes. Equal probabilities rank the earlier class first. The macro means
        are over the classes that occur in the truth; there a precision without predictions counts as 0.
        """
        targets, probabilities = self._arrays()
        ranks = _rank_of_truth(probabilities, targets)
        predicted = probabilities.argmax(axis=1)
        bins = calibration.reliability_bins(probabilities.max(axis=1), ranks == 0)
        confusion = confusion_matrix(targets, predicted, len(self.class_names))
        per_class = dict(zip(self.class_names, class_scores(confusion), strict=True))
        return {
            "num_images": len(targets),
            "top1": float((ranks < 1).mean()),
            "top5": float((ranks < 5).mean()),
            **macro_means(per_class),
            "nll": calibration.negative_log_likelihood(probabilities, targets),
            "ece": calibration.expected_calibration_error(bins),
            "per_class": per_class,
            "confusion": confusion.tolist(),
            "reliability": [b.to_json() for b in bins],
        }

    def per_image(self) -> dict[str, float]:
        """1.0 where the most probable class is the true one, else 0.0, by key."""
        targets, probabilities = self._arrays()
        is_correct = probabilities.argmax(axis=1) == targets
        return dict(zip(sorted(self.samples), is_correct.astype(float).tolist(), strict=True))

    def worst(self, count: int) -> list[str]:
        """Keys of the images whose true class got the lowest probability, the worst first."""
        targets, probabilities = self._arrays()
        of_truth = probabilities[np.arange(len(targets)), targets]
        keys = sorted(self.samples)
        return [keys[i] for i in np.argsort(of_truth, kind="stable")[:count]]

    def resampled(self) -> ResampledMean:
        """top1 and top5 for bootstrap resamples of the images."""
        targets, probabilities = self._arrays()
        ranks = _rank_of_truth(probabilities, targets)
        return ResampledMean(tuple(sorted(self.samples)), {"top1": ranks < 1, "top5": ranks < 5})

    def part(self, keys: Iterable[str]) -> "ClassificationMetric":
        """The state of some of the images."""
        part = ClassificationMetric(self.class_names)
        part.samples = {key: self.samples[key] for key in keys}
        return part

    def by_class(self) -> dict[str, ResampledMean]:
        """What resampled() gives, over the images of each class that the truth has: top1 is then the recall."""
        keys: dict[int, list[str]] = {}
        for key, (_, target) in self.samples.items():
            keys.setdefault(target, []).append(key)
        return {self.class_names[number]: self.part(keys[number]).resampled() for number in sorted(keys)}

    def _check(self, prediction: Prediction, target: int) -> None:
        C, key = len(self.class_names), prediction.key
        if prediction.probabilities.shape != (C,):
            raise ValueError(f"prediction of image {key}: has shape {prediction.probabilities.shape}, needs {(C,)}")
        if not np.isfinite(prediction.probabilities).all():
            raise ValueError(f"prediction of image {key}: a probability is not finite; did the training diverge?")
        if not 0 <= target < C:
            raise ValueError(f"target of image {key}: class {target} is not one of 0 to {C - 1}")
        if key in self.samples and self.samples[key][1] != target:
            raise ValueError(f"image {key} came twice with different classes: use unique keys")

    def _arrays(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Targets int64 [N] and probabilities float32 [N, C], sorted by key."""
        if not self.samples:
            raise ValueError("no image was evaluated: the split is empty, or update() was never called")
        samples = [self.samples[key] for key in sorted(self.samples)]
        targets = np.array([target for _, target in samples], dtype=np.int64)
        return targets, np.stack([prediction.probabilities for prediction, _ in samples])


def confusion_matrix(targets: NDArray[Any], predicted: NDArray[Any], num_classes: int) -> NDArray[np.int64]:
    """Counts int64 [C, C], rows the truth and columns the prediction, of class indices int [N] and [N]."""
    flat = np.bincount(targets * num_classes + predicted, minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes)


def class_scores(confusion: NDArray[np.int64]) -> list[dict[str, float | int | None]]:
    """Precision, recall, F1 and support of each class of a confusion matrix [C, C]."""
    hits, support, predicted = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    return [
        {
            "precision": _ratio(hits[c], predicted[c]),
            "recall": _ratio(hits[c], support[c]),
            "f1": _ratio(2 * hits[c], support[c] + predicted[c]),
            "support": int(support[c]),
        }
        for c in range(len(confusion))
    ]


def macro_means(per_class: Mapping[str, Mapping[str, float | int | None]]) -> dict[str, float]:
    """Means of precision, recall and F1 over the classes with truth, each class the same weight."""
    present = [scores for scores in per_class.values() if scores["support"]]
    return {
        f"macro_{name}": sum(s[name] or 0.0 for s in present) / len(present) for name in ("precision", "recall", "f1")
    }


def _ratio(part: np.int64, whole: np.int64) -> float | None:
    return float(part / whole) if whole else None


def _rank_of_truth(probabilities: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.int64]:
    """How many classes rank before the true one: int64 [N]."""
    of_truth = probabilities[np.arange(len(targets)), targets][:, None]
    is_earlier = np.arange(probabilities.shape[1])[None] < targets[:, None]
    return ((probabilities > of_truth) | ((probabilities == of_truth) & is_earlier)).sum(axis=1)
