"""How well images with any number of labels are classified: average precision of each class, F1, exact match."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.metrics import calibration, ranking
from stages.metrics.classification import Prediction, macro_means

CHUNK_ELEMENTS = 2**21  # of one [resamples, images] array: 16 MiB


@dataclass(frozen=True, eq=False)
class Target:
    """What is in one image."""

    key: str
    is_present: NDArray[np.bool_]  # [C]


class MultiLabelMetric:
    """A state over images that merges: the same numbers whatever the order of batches.

    Probabilities are of each class by itself; a class is predicted from score_threshold on. A key that comes twice
    counts once (a distributed sampler fills its last batch with samples seen before).
    """

    def __init__(self, class_names: Sequence[str], score_threshold: float = 0.5) -> None:
        self.class_names = tuple(class_names)
        self.score_threshold = score_threshold
        self.samples: dict[str, tuple[Prediction, Target]] = {}

    def update(self, predictions: Sequence[Prediction], targets: Sequence[Target]) -> None:
        """Add images; ValueError when shapes or keys do not fit, a number is not finite, or a key's target changes."""
        for prediction, target in zip(predictions, targets, strict=True):
            self._check(prediction, target)
            self.samples.setdefault(prediction.key, (prediction, target))

    def merge(self, other: "MultiLabelMetric") -> None:
        """Add the images of another state."""
        pairs = other.samples.values()
        self.update([prediction for prediction, _ in pairs], [target for _, target in pairs])

    def compute(self) -> dict[str, Any]:
        """All numbers over the images so far, ready for JSON; null where a ratio has nothing to divide by.

        map and the macro means are over the classes that occur in the truth; there a precision without predictions
        counts as 0. The micro ones count every class of every image as one decision. nll and ece, too: of each
        probability against whether the class is there.
        """
        truth, probabilities = self._arrays()
        predicted = probabilities >= self.score_threshold
        values = self.resampled().resample(np.ones((1, len(truth)), np.int64))
        hits, support, found = (truth & predicted).sum(0), truth.sum(0), predicted.sum(0)
        precisions = self._average_precisions(truth, probabilities)
        per_class = {
            name: {"ap": _number(precisions[c]), **_scores(hits[c], support[c], found[c])}
            for c, name in enumerate(self.class_names)
        }
        whole = _scores(hits.sum(), support.sum(), found.sum())
        bins = calibration.reliability_bins(probabilities.ravel(), truth.ravel())
        return {
            "num_images": len(truth),
            "score_threshold": self.score_threshold,
            "map": _number(values["map"][0]),
            "exact_match": float(values["exact_match"][0]),
            **{f"micro_{name}": whole[name] for name in ("precision", "recall", "f1")},
            **(macro_means(per_class) if support.any() else dict.fromkeys(_MACRO)),
            "labels_per_image": float(support.sum() / len(truth)),
            "nll": _negative_log_likelihood(probabilities, truth),
            "ece": calibration.expected_calibration_error(bins),
            "per_class": per_class,
            "reliability": [b.to_json() for b in bins],
        }

    def per_image(self) -> dict[str, float]:
        """F1 of the labels of each image, by key; 1 where nothing is and nothing is predicted."""
        truth, probabilities = self._arrays()
        predicted = probabilities >= self.score_threshold
        hits, labels = (truth & predicted).sum(1), truth.sum(1) + predicted.sum(1)
        f1 = np.where(labels > 0, 2 * hits / np.maximum(labels, 1), 1.0)
        return dict(zip(sorted(self.samples), f1.tolist(), strict=True))

    def worst(self, count: int) -> list[str]:
        """Keys of the images with the lowest per_image() value, the worst first."""
        return ranking.worst(self.per_image(), count)

    def resampled(self) -> "ResampledLabels":
        """map, micro_f1 and exact_match for bootstrap resamples of the images."""
        return ResampledLabels(tuple(sorted(self.samples)), *self._arrays(), self.score_threshold)

    def part(self, keys: Iterable[str]) -> "MultiLabelMetric":
        """The state of some of the images."""
        part = MultiLabelMetric(self.class_names, self.score_threshold)
        part.samples = {key: self.samples[key] for key in keys}
        return part

    def by_class(self) -> dict[str, "ResampledLabels"]:
        """What resampled() gives over each class alone that the truth has: map is then its average precision."""
        truth, probabilities = self._arrays()
        keys = tuple(sorted(self.samples))
        return {
            name: ResampledLabels(keys, truth[:, c : c + 1], probabilities[:, c : c + 1], self.score_threshold)
            for c, name in enumerate(self.class_names)
            if truth[:, c].any()
        }

    def _average_precisions(self, truth: NDArray[np.bool_], probabilities: NDArray[np.float32]) -> list[float]:
        once = np.ones((1, len(truth)), np.int64)
        return [float(average_precision(truth[:, c], probabilities[:, c], once)[0]) for c in range(truth.shape[1])]

    def _check(self, prediction: Prediction, target: Target) -> None:
        key, shape = target.key, (len(self.class_names),)
        if prediction.key != key:
            raise ValueError(f"the prediction of image {prediction.key} came with the target of {key}")
        if prediction.probabilities.shape != shape or target.is_present.shape != shape:
            shapes = f"{prediction.probabilities.shape} and {target.is_present.shape}"
            raise ValueError(f"image {key}: prediction and target have shapes {shapes}, need {shape}")
        if not np.isfinite(prediction.probabilities).all():
            raise ValueError(f"prediction of image {key}: a probability is not finite; did the training diverge?")
        if key in self.samples and not np.array_equal(self.samples[key][1].is_present, target.is_present):
            raise ValueError(f"image {key} came twice with different labels: use unique keys")

    def _arrays(self) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Truth bool [N, C] and probabilities float32 [N, C], sorted by key."""
        if not self.samples:
            raise ValueError("no image was evaluated: the split is empty, or update() was never called")
        samples = [self.samples[key] for key in sorted(self.samples)]
        truth = np.stack([target.is_present for _, target in samples]).astype(bool)
        return truth, np.stack([prediction.probabilities for prediction, _ in samples])


@dataclass(frozen=True, eq=False)
class ResampledLabels:
    """map, micro_f1 and exact_match when each image counts any number of times."""

    keys: Sequence[str]
    truth: NDArray[np.bool_]  # [N, C]
    probabilities: NDArray[np.float32]  # [N, C]
    score_threshold: float

    def resample(self, weights: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """Values [R] for weights int64 [R, N]; NaN where a resample has no label, as to find none is no answer."""
        predicted = self.probabilities >= self.score_threshold
        hits = weights @ (self.truth & predicted).sum(1)
        labels = weights @ (self.truth.sum(1) + predicted.sum(1))
        is_exact = (self.truth == predicted).all(1)
        return {
            "map": self._mean_average_precision(weights),
            "micro_f1": np.where(labels, 2 * hits / np.maximum(labels, 1), np.nan),
            "exact_match": weights @ is_exact.astype(np.float64) / weights.sum(axis=1),
        }

    def _mean_average_precision(self, weights: NDArray[np.int64]) -> NDArray[np.float64]:
        """The mean over the classes that a resample has."""
        classes = range(self.truth.shape[1])
        values = np.stack([average_precision(self.truth[:, c], self.probabilities[:, c], weights) for c in classes])
        count = np.isfinite(values).sum(0)
        return np.where(count, np.nansum(values, 0) / np.maximum(count, 1), np.nan)


def average_precision(
    is_true: NDArray[np.bool_], scores: NDArray[Any], weights: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Sum of precision times the gain in recall, [R], over all thresholds on scores [N]; image weights int64 [R, N].

    As scikit-learn's average_precision_score: no interpolation, equal scores are one threshold. NaN without a truth.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # the last of equal scores
    chunk = max(1, CHUNK_ELEMENTS // max(1, len(scores)))
    parts = [weights[start : start + chunk, order] for start in range(0, len(weights), chunk)]
    return np.concatenate([_average_precision(is_true[order], part, ends) for part in parts])


def _average_precision(
    is_true: NDArray[np.bool_], counted: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.float64]:
    hits = np.cumsum(counted * is_true, axis=1)[:, ends]
    found = np.cumsum(counted, axis=1)[:, ends]
    gains = np.diff(hits, axis=1, prepend=0)
    summed = (gains * hits / np.maximum(found, 1)).sum(axis=1)
    return np.where(hits[:, -1], summed / np.maximum(hits[:, -1], 1), np.nan)


_MACRO = ("macro_precision", "macro_recall", "macro_f1")


def _scores(hits: Any, support: Any, found: Any) -> dict[str, float | int | None]:
    return {
        "precision": float(hits / found) if found else None,
        "recall": float(hits / support) if support else None,
        "f1": float(2 * hits / (support + found)) if support + found else None,
        "support": int(support),
    }


def _negative_log_likelihood(probabilities: NDArray[np.float32], truth: NDArray[np.bool_]) -> float:
    """Mean in nats over images and classes; a probability of 0 counts as the smallest normal float32."""
    of_truth = np.where(truth, probabilities, 1 - probabilities.astype(np.float64))
    return float(-np.log(np.maximum(of_truth, np.finfo(np.float32).tiny)).mean())


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
