"""Whether a confidence of 0.8 is right 8 times in 10."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NUM_BINS = 15


@dataclass(frozen=True)
class Bin:
    """Predictions whose confidence lies in (low, high], and how many of them were right."""

    low: float
    high: float
    count: int
    confidence: float | None  # mean of the bin; None: the bin is empty
    accuracy: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def reliability_bins(confidences: NDArray[Any], is_correct: NDArray[Any], num_bins: int = NUM_BINS) -> list[Bin]:
    """Equal-width bins over [0, 1]: confidences float [N], is_correct bool [N].

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2. A confidence of 0
    joins the first bin.
    """
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    confidences = confidences.astype(np.float64)
    bins = np.clip(np.searchsorted(edges, confidences, side="left") - 1, 0, num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins)
    confidence = np.bincount(bins, confidences, num_bins) / np.maximum(counts, 1)
    accuracy = np.bincount(bins, is_correct, num_bins) / np.maximum(counts, 1)
    return [
        Bin(
            low=float(edges[i]),
            high=float(edges[i + 1]),
            count=int(counts[i]),
            confidence=float(confidence[i]) if counts[i] else None,
            accuracy=float(accuracy[i]) if counts[i] else None,
        )
        for i in range(num_bins)
    ]


def expected_calibration_error(bins: list[Bin]) -> float:
    """Mean distance between accuracy and confidence, each bin weighted by its count (Guo et al. 2017, equation 3)."""
    total = sum(b.count for b in bins)
    gaps = (
        b.count * abs(b.accuracy - b.confidence) for b in bins if b.accuracy is not None and b.confidence is not None
    )
    return sum(gaps) / total


def negative_log_likelihood(probabilities: NDArray[Any], targets: NDArray[Any]) -> float:
    """Mean of -log p(truth) in nats: probabilities float [N, C], targets int [N].

    A probability of 0 counts as the smallest normal float32 (87.3 nats), so that the mean stays finite.
    """
    of_truth = probabilities[np.arange(len(targets)), targets].astype(np.float64)
    return float(-np.log(np.maximum(of_truth, np.finfo(np.float32).tiny)).mean())
