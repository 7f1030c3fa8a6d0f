"""Whether a challenger may replace a champion: each declared rule as a check with its numbers.

Sources: non-inferiority by a one-sided confidence bound as in Piaggio et al. 2012 (CONSORT extension); percentile
bootstrap over images, paired, as in metrics/bootstrap.py; Bonferroni's correction over slices.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from stages.metrics.bootstrap import ResampledMetric, distributions, value_of


@dataclass(frozen=True)
class Check:
    """One rule: what was seen, what it needs, and whether that holds (None: not judged, which blocks nothing)."""

    rule: str
    passed: bool | None
    observed: str
    needed: str
    numbers: Mapping[str, float | int | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """Champion and challenger measured on the same images."""

    champion: ResampledMetric
    challenger: ResampledMetric

    @property
    def num_images(self) -> int:
        return len(self.challenger.keys)


@dataclass(frozen=True)
class Bounds:
    """challenger - champion of one metric: the value and its one-sided bounds at 1 - alpha each; NaN: undefined."""

    champion: float
    challenger: float
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.challenger - self.champion

    def numbers(self, num_images: int) -> dict[str, float | int | None]:
        """The bounds for JSON."""
        named = {
            "champion": self.champion,
            "challenger": self.challenger,
            "difference": self.value,
            "low": self.low,
            "high": self.high,
        }
        return {"num_images": num_images} | {name: float(v) if np.isfinite(v) else None for name, v in named.items()}

    def text(self) -> str:
        """The bounds in words."""
        span = f"{self.value:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"
        return f"{self.champion:.4f} -> {self.challenger:.4f}, difference {span}"


def difference(pair: Pair, metric: str, alpha: float, resamples: int, seed: int) -> Bounds:
    """Bounds of the paired difference of a metric, from the quantiles alpha and 1 - alpha of its resamples."""
    samples = distributions({"champion": pair.champion, "challenger": pair.challenger}, resamples, seed)
    differences = samples["challenger"][metric] - samples["champion"][metric]
    differences = differences[np.isfinite(differences)]
    low, high = np.quantile(differences, [alpha, 1 - alpha]) if len(differences) else (np.nan, np.nan)
    return Bounds(value_of(pair.champion)[metric], value_of(pair.challenger)[metric], float(low), float(high))


def main_check(pair: Pair, metric: str, rule: str, margin: float, alpha: float, resamples: int, seed: int) -> Check:
    """The rule on the main metric: `superior` (low > 0) or `non_inferior` (low > -margin)."""
    bounds = difference(pair, metric, alpha, resamples, seed)
    least = 0.0 if rule == "superior" else -margin
    return Check(
        f"{rule} {metric}",
        bool(bounds.low > least),
        bounds.text(),
        f"lower bound at {1 - alpha:.0%} over {least:+.4f}",
        bounds.numbers(pair.num_images),
    )


def slice_checks(
    slices: Mapping[str, Pair], metric: str, margin: float, images_min: int, alpha: float, resamples: int, seed: int
) -> list[Check]:
    """No slice loses more than `margin` beyond chance: value < -margin and upper bound < 0 blocks.

    alpha is shared by the slices that are judged (Bonferroni), so that many slices do not block by chance alone.
    """
    judged = {name for name, pair in slices.items() if pair.num_images >= images_min}
    share = alpha / max(1, len(judged))
    checks = []
    for name, pair in slices.items():
        needed = f"no loss over {margin:.4f} beyond chance"
        if name not in judged:
            told = f"{pair.num_images} images, under {images_min}: not judged"
            checks.append(Check(f"slice {name}", None, told, needed, {"num_images": pair.num_images}))
            continue
        bounds = difference(pair, metric, share, resamples, seed)
        is_defined = bool(np.isfinite([bounds.value, bounds.high]).all())
        is_loss = bounds.value < -margin and bounds.high < 0
        checks.append(
            Check(
                f"slice {name}",
                not is_loss if is_defined else None,
                bounds.text() if is_defined else "undefined here",
                needed,
                bounds.numbers(pair.num_images),
            )
        )
    return checks


def ratio_check(
    rule: str, champion: float, challenger: float, unit: str, most: float | None, most_ratio: float | None
) -> Check | None:
    """A limit on a cost, absolute and over the champion's; None where neither limit is set."""
    limits = [most] if most is not None else []
    limits += [most_ratio * champion] if most_ratio is not None else []
    if not limits:
        return None
    needed = f"at most {min(limits):.2f} {unit}"
    numbers = {"champion": champion, "challenger": challenger, "limit": min(limits)}
    observed = f"{champion:.2f} -> {challenger:.2f} {unit}"
    return Check(rule, challenger <= min(limits), observed, needed, numbers)
