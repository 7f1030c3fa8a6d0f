"""How well pixels are classified: intersection over union of classes, accuracies, boundaries."""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.metrics import ranking
from stages.metrics.boundaries import boundaries

IGNORED = 255  # a pixel that is not labelled, or that was given none of the classes
# Rows of an image's areas: pixels of each class, the last three within boundary regions.
HITS, TRUTH, PREDICTED, BOUNDARY_HITS, BOUNDARY_TRUTH, BOUNDARY_PREDICTED = range(6)


@dataclass(frozen=True, eq=False)
class Prediction:
    """The class of each pixel of one image, in pixels of the original image."""

    key: str
    classes: NDArray[np.uint8]  # [H, W] class indices; IGNORED: none of them
    scores: NDArray[np.float32]  # [C], mean probability of the pixels that a class was given; 0 where it was given none


@dataclass(frozen=True, eq=False)
class Target:
    """The true class of each pixel of one image, in pixels of the original image."""

    key: str
    classes: NDArray[np.uint8]  # [H, W] class indices; IGNORED: not labelled


@dataclass(frozen=True, eq=False)
class Measured:
    """What is kept of one image: counts, and both maps compressed."""

    areas: NDArray[np.int64]  # [6, C] pixels, rows as named above
    pairs: NDArray[np.int64]  # [K, 3] truth, prediction (C: none) and pixels of each combination that occurs
    prediction: bytes
    truth: bytes
    size: tuple[int, int]

    def maps(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Prediction and truth, uint8 [H, W] each."""
        found, true = (np.frombuffer(zlib.decompress(data), np.uint8) for data in (self.prediction, self.truth))
        return found.reshape(self.size), true.reshape(self.size)


class SegmentationMetric:
    """A state over images that merges: the same numbers whatever the order of batches.

    Counts are whole pixels, so that sums are exact. Pixels that the truth ignores count nowhere; a pixel given none of
    the classes is a miss of its true class. A key that comes twice counts once (a distributed sampler fills its last
    batch with samples seen before).
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = tuple(class_names)
        self.samples: dict[str, Measured] = {}

    def update(self, predictions: Sequence[Prediction], targets: Sequence[Target]) -> None:
        """Add images, one target to each prediction.

        ValueError when keys or sizes differ, a number is no class, or the target of a key changes.
        """
        for prediction, target in zip(predictions, targets, strict=True):
            self._check(prediction, target)
            measured = measure(prediction.classes, target.classes, len(self.class_names))
            seen = self.samples.setdefault(prediction.key, measured)
            if (seen.truth, seen.size) != (measured.truth, measured.size):
                raise ValueError(f"image {target.key} came twice with different targets: use unique keys")

    def merge(self, other: "SegmentationMetric") -> None:
        """Add the images of another state."""
        for key, measured in other.samples.items():
            seen = self.samples.setdefault(key, measured)
            if (seen.truth, seen.size) != (measured.truth, measured.size):
                raise ValueError(f"image {key} came twice with different targets: use unique keys")

    def compute(self) -> dict[str, Any]:
        """All numbers over the images so far, ready for JSON; null where there is no truth to find.

        IoU of a class is hits / (truth + predicted - hits) over all images together, and miou its mean over the classes
        that occur in truth or prediction, as Cityscapes' and MMSegmentation's scripts have it. boundary_iou is the same
        within boundary regions (Cheng et al. 2021, dilation ratio 0.02), ignored pixels left out of both. fwiou weights
        classes by their true pixels, mean_accuracy is the mean recall (Long et al. 2015, section 5).
        """
        total = self._areas.sum(0)
        values = {name: defined(value[0]) for name, value in means(total[None]).items()}
        iou, boundary_iou = ious(total[None])
        accuracy = ratio(total[HITS], total[TRUTH])
        images = (self._areas[:, TRUTH] > 0).sum(0)
        return {
            "num_images": len(self.samples),
            **values,
            "per_class": {
                name: {
                    "iou": defined(iou[0, k]),
                    "boundary_iou": defined(boundary_iou[0, k]),
                    "accuracy": defined(accuracy[k]),
                    "num_truth": int(images[k]),  # images that show it
                }
                for k, name in enumerate(self.class_names)
            },
            "confusion": self.confusion().tolist(),
        }

    def confusion(self) -> NDArray[np.int64]:
        """Pixels [C, C + 1], rows the truth, columns the prediction; the last one: none of the classes."""
        C = len(self.class_names)
        pairs = np.concatenate([np.zeros((0, 3), np.int64), *(self.samples[key].pairs for key in self.keys)])
        matrix = np.zeros((C, C + 1), np.int64)
        np.add.at(matrix, (pairs[:, 0], pairs[:, 1]), pairs[:, 2])
        return matrix

    @property
    def keys(self) -> tuple[str, ...]:
        """Of the images so far, sorted."""
        return tuple(sorted(self.samples))

    def per_image(self) -> dict[str, float]:
        """Mean IoU of the classes that an image or its prediction shows, by key; 1 where nothing is labelled."""
        values = means(self._areas)["miou"]
        return dict(zip(self.keys, np.where(np.isnan(values), 1.0, values).tolist(), strict=True))

    def worst(self, count: int) -> list[str]:
        """Keys of the images with the lowest mean IoU, the worst first."""
        return ranking.worst(self.per_image(), count)

    def resampled(self) -> "ResampledIoU":
        """miou, boundary_miou and pixel_accuracy for bootstrap resamples of the images."""
        return ResampledIoU(self.keys, self._areas)

    def part(self, keys: Iterable[str]) -> "SegmentationMetric":
        """The state of some of the images."""
        part = SegmentationMetric(self.class_names)
        part.samples = {key: self.samples[key] for key in keys}
        return part

    def by_class(self) -> dict[str, "ResampledIoU"]:
        """What resampled() gives, of each class alone that the truth has: miou is then its IoU."""
        areas = self._areas
        return {
            name: ResampledIoU(self.keys, areas[:, :, k : k + 1])
            for k, name in enumerate(self.class_names)
            if areas[:, TRUTH, k].any()
        }

    @property
    def _areas(self) -> NDArray[np.int64]:
        """[N, 6, C], images in the order of their keys."""
        if not self.samples:
            raise ValueError("no image was evaluated: the split is empty, or update() was never called")
        return np.stack([self.samples[key].areas for key in self.keys])

    def _check(self, prediction: Prediction, target: Target) -> None:
        C, key = len(self.class_names), target.key
        if prediction.key != key:
            raise ValueError(f"the prediction of image {prediction.key} came with the target of {key}")
        if prediction.classes.shape != target.classes.shape:
            shapes = f"{prediction.classes.shape}, its target {target.classes.shape}"
            raise ValueError(f"the prediction of image {key} has shape {shapes}")
        for what, classes in (("prediction", prediction.classes), ("target", target.classes)):
            highest = int(classes[classes != IGNORED].max(initial=0))
            if highest >= C:
                raise ValueError(f"{what} of image {key}: class {highest}, but the {C} classes count from 0")
        if not np.isfinite(prediction.scores).all():
            raise ValueError(f"prediction of image {key}: a score is not finite; did the training diverge?")


@dataclass(frozen=True, eq=False)
class ResampledIoU:
    """Metrics of segmentation when each image counts any number of times."""

    keys: Sequence[str]
    areas: NDArray[np.int64]  # [N, 6, C]

    def resample(self, weights: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """Values [R] by name for weights int64 [R, N]; NaN where a resample has no truth at all."""
        values = means((weights.astype(np.float64) @ self._flat).reshape(len(weights), *self.areas.shape[1:]))
        return {name: values[name] for name in ("miou", "boundary_miou", "pixel_accuracy")}

    @cached_property
    def _flat(self) -> NDArray[np.float64]:
        # Whole numbers up to 2^53 are exact in float64, and BLAS knows no integers.
        return self.areas.reshape(len(self.areas), -1).astype(np.float64)


def measure(predicted: NDArray[np.uint8], truth: NDArray[np.uint8], num_classes: int) -> Measured:
    """Counts of one image, class indices uint8 [H, W] each."""
    C, is_labelled = num_classes, truth != IGNORED
    # What is said of ignored pixels is taken away before contours are drawn, or they would differ there.
    seen = np.where(is_labelled, predicted, IGNORED)
    pairs = truth[is_labelled].astype(np.int64) * (C + 1) + np.minimum(seen[is_labelled], C)
    counts = np.bincount(pairs, minlength=C * (C + 1)).reshape(C, C + 1)
    areas = np.zeros((6, C), np.int64)
    areas[HITS], areas[TRUTH], areas[PREDICTED] = counts[:, :C].diagonal(), counts.sum(1), counts[:, :C].sum(0)
    in_truth, in_seen = boundaries(truth) & is_labelled, boundaries(seen) & (seen != IGNORED)
    areas[BOUNDARY_HITS] = _numbers(truth[in_truth & in_seen & (truth == seen)], C)
    areas[BOUNDARY_TRUTH], areas[BOUNDARY_PREDICTED] = _numbers(truth[in_truth], C), _numbers(seen[in_seen], C)
    rows, columns = np.nonzero(counts)
    found = np.stack([rows, columns, counts[rows, columns]], 1)
    size = (truth.shape[0], truth.shape[1])
    return Measured(areas, found, zlib.compress(predicted.tobytes(), 1), zlib.compress(truth.tobytes(), 1), size)


def means(areas: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """The metrics [R] of areas [R, 6, C]; NaN where there is no truth."""
    iou, boundary_iou = ious(areas)
    truth = areas[:, TRUTH].astype(np.float64)
    has_truth = truth.sum(1) > 0
    values = {
        "miou": _nan_mean(iou),
        "boundary_miou": _nan_mean(boundary_iou),
        "pixel_accuracy": ratio(areas[:, HITS].sum(1), truth.sum(1)),
        "mean_accuracy": _nan_mean(ratio(areas[:, HITS], truth)),
        "fwiou": ratio((truth * np.nan_to_num(iou)).sum(1), truth.sum(1)),
    }
    return {name: np.where(has_truth, value, np.nan) for name, value in values.items()}


def ious(areas: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """IoU and boundary IoU [R, C] of areas [R, 6, C]; NaN for a class in neither truth nor prediction."""
    whole = ratio(areas[:, HITS], areas[:, TRUTH] + areas[:, PREDICTED] - areas[:, HITS])
    union = areas[:, BOUNDARY_TRUTH] + areas[:, BOUNDARY_PREDICTED] - areas[:, BOUNDARY_HITS]
    return whole, ratio(areas[:, BOUNDARY_HITS], union)


def ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """part / whole; NaN where whole is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def defined(value: Any) -> float | None:
    """A number for JSON; None where it is not defined."""
    return float(value) if np.isfinite(value) else None


def _numbers(classes: NDArray[np.uint8], num_classes: int) -> NDArray[np.int64]:
    return np.bincount(classes, minlength=num_classes)[:num_classes]


def _nan_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the last axis of what is a number; NaN, without a warning, where nothing is."""
    count = np.isfinite(values).sum(-1)
    return np.where(count > 0, np.nansum(values, -1) / np.maximum(count, 1), np.nan)
