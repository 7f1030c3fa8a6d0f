"""How sure a metric is: percentile bootstrap over images, paired between models.

Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", chapters 13 (percentile interval) and 15 (p).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

CHUNK_ELEMENTS = 2**22  # of one weights array: 32 MiB


class ResampledMetric(Protocol):
    """A metric that can be recomputed when each image counts any number of times."""

    @property
    def keys(self) -> Sequence[str]:
        """Image keys [N], in the order of the weights."""

    def resample(self, weights: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """Values [R] by name for weights int64 [R, N]; NaN where a resample leaves nothing to measure."""


@dataclass(frozen=True)
class Interval:
    """A value with the percentile interval of its bootstrap distribution; None: there was nothing to measure."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference(Interval):
    """A paired difference; p is the two-sided share of resamples on the other side of zero."""

    p: float | None


@dataclass(frozen=True, eq=False)
class ResampledMean:
    """Means over images of per-image values [N] by name."""

    keys: Sequence[str]
    values: Mapping[str, NDArray[Any]]

    def resample(self, weights: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """Weighted means [R] by name."""
        total = weights.sum(axis=1)
        return {name: weights @ values.astype(np.float64) / total for name, values in self.values.items()}


@dataclass(frozen=True, eq=False)
class ResampledParts:
    """Several metrics of the same images as one; each name has the prefix of its part."""

    parts: Mapping[str, ResampledMetric]  # by prefix

    @property
    def keys(self) -> Sequence[str]:
        """Image keys [N]."""
        return next(iter(self.parts.values())).keys

    def resample(self, weights: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """The values [R] of all parts."""
        return {
            prefix + name: values
            for prefix, part in self.parts.items()
            for name, values in part.resample(weights).items()
        }


def resample_weights(num_images: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Chunks int64 [r, N] of `resamples` rows: how often each image is drawn in N draws with replacement."""
    generator = np.random.default_rng(seed)
    chunk = max(1, CHUNK_ELEMENTS // max(1, num_images))
    for start in range(0, resamples, chunk):
        draws = [generator.integers(num_images, size=num_images) for _ in range(start, min(start + chunk, resamples))]
        yield np.stack([np.bincount(drawn, minlength=num_images) for drawn in draws])


def interval(values: NDArray[Any], resamples: int, confidence: float, seed: int) -> Interval:
    """The mean of per-image values [N] with its interval."""
    metric = ResampledMean(tuple(str(i) for i in range(len(values))), {"mean": values})
    return _interval(value_of(metric)["mean"], distributions({"": metric}, resamples, seed)[""]["mean"], confidence)


def paired_difference(
    metric_a: ResampledMetric, metric_b: ResampledMetric, resamples: int, confidence: float, seed: int
) -> dict[str, Difference]:
    """a - b by metric name, both measured on the same resamples; ValueError when their images differ."""
    samples = distributions({"a": metric_a, "b": metric_b}, resamples, seed)
    return _differences(metric_a, metric_b, samples["a"], samples["b"], confidence)


def compare(
    reports: Mapping[str, ResampledMetric], resamples: int, confidence: float, seed: int, subject: str = "after"
) -> dict[str, Any]:
    """Intervals of every report, and paired differences of the subject to each other one, ready for JSON.

    {"after": {"ap": {value, low, high}}, ..., "differences": {"after-before": {"ap": {value, low, high, p}}, ...}}
    Every report sees the same resamples. ValueError when the reports' images differ.
    """
    samples = distributions(reports, resamples, seed)
    result: dict[str, Any] = {
        name: {m: asdict(_interval(v, samples[name][m], confidence)) for m, v in value_of(report).items()}
        for name, report in reports.items()
    }
    result["differences"] = {
        f"{subject}-{name}": {
            metric: asdict(difference)
            for metric, difference in _differences(
                reports[subject], report, samples[subject], samples[name], confidence
            ).items()
        }
        for name, report in reports.items()
        if name != subject
    }
    return result


def value_of(metric: ResampledMetric) -> dict[str, float]:
    """The metric's values by name with each image counted once."""
    ones = np.ones((1, len(metric.keys)), dtype=np.int64)
    return {name: float(values[0]) for name, values in metric.resample(ones).items()}


def distributions(
    reports: Mapping[str, ResampledMetric], resamples: int, seed: int
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Values [R] by report and metric name, every report on the same resamples."""
    keys = [tuple(report.keys) for report in reports.values()]
    if any(other != keys[0] for other in keys):
        raise ValueError(f"{' and '.join(reports)} were measured on different images: evaluate them on the same split")
    chunks: dict[str, list[dict[str, NDArray[np.float64]]]] = {name: [] for name in reports}
    for weights in resample_weights(len(keys[0]), resamples, seed):
        for name, report in reports.items():
            chunks[name].append(report.resample(weights))
    return {
        name: {metric: np.concatenate([part[metric] for part in parts]) for metric in parts[0]}
        for name, parts in chunks.items()
    }


def _differences(
    a: ResampledMetric,
    b: ResampledMetric,
    samples_a: Mapping[str, NDArray[np.float64]],
    samples_b: Mapping[str, NDArray[np.float64]],
    confidence: float,
) -> dict[str, Difference]:
    values_a, values_b = value_of(a), value_of(b)
    result = {}
    for name in values_a:
        samples = samples_a[name] - samples_b[name]
        bounds = _interval(values_a[name] - values_b[name], samples, confidence)
        result[name] = Difference(bounds.value, bounds.low, bounds.high, _p_value(samples))
    return result


def _interval(value: float, samples: NDArray[np.float64], confidence: float) -> Interval:
    samples = samples[np.isfinite(samples)]
    if not np.isfinite(value) or not len(samples):
        return Interval(None, None, None)
    low, high = np.quantile(samples, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high))


def _p_value(samples: NDArray[np.float64]) -> float | None:
    """Twice the smaller tail at zero; one is added to both counts, because p = 0 can't be shown by counting."""
    samples = samples[np.isfinite(samples)]
    if not len(samples):
        return None
    tail = min(int((samples <= 0).sum()), int((samples >= 0).sum()))
    return min(1.0, 2 * (tail + 1) / (len(samples) + 1))
