"""COCO's average precision when each image counts any number of times, matched only once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.metrics.coco import IOU_50, Matches

RECALLS = np.linspace(0.0, 1.0, 101)
CHUNK_ELEMENTS = 2**21  # of one [resamples, detections] array: 16 MiB


@dataclass(frozen=True, eq=False)
class ResampledAP:
    """AP and AP50 over bootstrap resamples of images.

    Equal to pycocotools on a dataset in which an image of weight w stands w times (Lin et al. 2014): what matches what
    is decided within an image, so only the accumulation over images is repeated. Classes that a resample leaves
    without truth are left out of its mean, as pycocotools does.
    """

    keys: Sequence[str]
    matches: Sequence[Matches]  # one a class

    def resample(self, weights: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """ap and ap50 [R] for weights int64 [R, N]; NaN where a resample has no truth at all."""
        widest = max((len(m.scores) for m in self.matches), default=0)
        chunk = max(1, CHUNK_ELEMENTS // max(1, widest))
        parts = [self._resample(weights[start : start + chunk]) for start in range(0, len(weights), chunk)]
        precision = np.concatenate(parts, axis=1)
        return {"ap": _nan_mean(precision, (0, 2)), "ap50": _nan_mean(precision[:, :, IOU_50], (0,))}

    def _resample(self, weights: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.stack([class_average_precision(m, weights) for m in self.matches])


def class_average_precision(matches: Matches, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """Average precision [R, T] of one class for image weights int64 [R, N]; NaN where a resample has no truth."""
    num_truth = weights @ matches.num_truth
    needed = hits_needed(num_truth)
    detected = weights[:, matches.images]
    precision = np.stack(
        [
            _interpolated_mean(detected, is_true, is_valid, needed)
            for is_true, is_valid in zip(matches.is_true, matches.is_valid, strict=True)
        ],
        axis=1,
    )
    precision[num_truth == 0] = np.nan
    return precision


def hits_needed(num_truth: NDArray[np.int64]) -> NDArray[np.int64]:
    """The least number of true positives [R, 101] whose recall reaches each of COCO's 101, in its own rounding."""
    total = np.maximum(num_truth, 1)[:, None]
    hits = np.ceil(RECALLS * total)
    hits -= (hits - 1) / total >= RECALLS
    hits += hits / total < RECALLS
    return hits.astype(np.int64)


def _interpolated_mean(
    detected: NDArray[np.int64], is_true: NDArray[np.bool_], is_valid: NDArray[np.bool_], needed: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Mean [R] of the precision at 101 recalls, from the multiplicities [R, D] of detections sorted by score.

    Only true positives are looked at: recall rises, and precision peaks, nowhere else.
    """
    num_resamples, row = len(detected), np.arange(len(detected))[:, None]
    at_hits = np.flatnonzero(is_true)
    hits = np.cumsum(detected[:, at_hits], axis=1)
    seen = np.cumsum(detected * is_valid, axis=1)[:, at_hits]
    precision = hits / (seen + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # One binary search over all rows: each row is shifted above the one before, and ends in a precision of 0
    # for the recalls that it never reaches.
    beyond = int(needed.max()) + int(hits.max(initial=0)) + 1
    hits = np.hstack([hits, np.full((num_resamples, 1), beyond)]) + row * (beyond + 1)
    envelope = np.hstack([envelope, np.zeros((num_resamples, 1))])
    places = np.searchsorted(hits.ravel(), (needed + row * (beyond + 1)).ravel())
    return envelope.ravel()[places].reshape(num_resamples, -1).mean(axis=1)


def _nan_mean(values: NDArray[np.float64], axes: tuple[int, ...]) -> NDArray[np.float64]:
    """Mean over axes of what is a number; NaN, without a warning, where nothing is."""
    count = np.isfinite(values).sum(axis=axes)
    return np.where(count, np.nansum(values, axis=axes) / np.maximum(count, 1), np.nan)
