"""How often the gate is right, by simulation: `python tests/benchmarks/gate.py`.

Classifiers of known true quality are compared on fresh test sets: each image is right or wrong for both, or right for
one of them alone, by fixed chances. Detection: images of 1 to 8 boxes, each found by both, one or neither.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

from stages.metrics import gate
from stages.metrics.bootstrap import ResampledMean
from stages.metrics.detection import DetectionMetric, Prediction, Target

ALPHA, MARGIN, RESAMPLES = 0.05, 0.01, 1000
TRIALS = 200


def classifiers(rng: np.random.Generator, num_images: int, gain: float, metric: str = "top1") -> gate.Pair:
    """Champion right on 80 % of images; they disagree on 8 %; the challenger is better by `gain` in truth."""
    disagree = 0.08
    chances = [0.80 - (disagree - gain) / 2, (disagree + gain) / 2, (disagree - gain) / 2]
    kinds = rng.choice(4, num_images, p=[*chances, 1 - sum(chances)])
    keys = tuple(f"{i:06d}" for i in range(num_images))
    champion, challenger = np.isin(kinds, (0, 2)), np.isin(kinds, (0, 1))
    return gate.Pair(ResampledMean(keys, {metric: champion}), ResampledMean(keys, {metric: challenger}))


def detectors(rng: np.random.Generator, num_images: int, gain: float) -> gate.Pair:
    """Both find 80 % of the boxes, 8 % are found by one alone; the challenger finds `gain` more in truth."""
    metrics = (DetectionMetric(("thing",)), DetectionMetric(("thing",)))
    for i in range(num_images):
        boxes = np.array([[30 * k, 0, 30 * k + 20, 20] for k in range(rng.integers(1, 9))], np.float32)
        pair = classifiers(rng, len(boxes), gain)
        target = Target(f"{i:06d}", 240, 20, boxes, np.zeros(len(boxes), np.int64), np.zeros(len(boxes), bool))
        for metric, part in zip(metrics, (pair.champion, pair.challenger), strict=True):
            found = boxes[np.asarray(part.values["top1"])]
            scores = rng.uniform(0.5, 1, len(found)).astype(np.float32)
            metric.update([Prediction(target.key, found, scores, np.zeros(len(found), np.int64))], [target])
    return gate.Pair(metrics[0].resampled(), metrics[1].resampled())


def promoted(
    make: Callable[[np.random.Generator, int, float], gate.Pair], metric: str, num_images: int, gain: float, rule: str
) -> int:
    """Of TRIALS test sets, on how many the challenger passes."""
    passed = 0
    for seed in range(TRIALS):
        pair = make(np.random.default_rng(seed), num_images, gain)
        passed += bool(gate.main_check(pair, metric, rule, MARGIN, ALPHA, RESAMPLES, seed).passed)
    return passed


def main() -> None:
    """Print how often each rule passes, and whether that is within what the gate promises."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000, help="of each test set [2000]")
    parser.add_argument("--detection-images", type=int, default=600, help="likewise, for detectors [600]")
    options = parser.parse_args()
    print(f"{TRIALS} test sets each (seeds 0 to {TRIALS - 1}), alpha {ALPHA}, margin {MARGIN}, {RESAMPLES} resamples")
    kinds = (
        ("classifier", classifiers, "top1", options.images),
        ("detector", detectors, "ap", options.detection_images),
    )
    for name, make, metric, num_images in kinds:
        for rule, gain, promise in (
            ("superior", 0.0, lambda n: n <= 18),
            ("superior", -0.02, lambda n: n <= 0.05 * TRIALS),
            ("non_inferior", -0.02, lambda n: n <= 0.05 * TRIALS),
            ("non_inferior", 0.02, lambda n: n >= 0.95 * TRIALS),
        ):
            began = time.perf_counter()
            count = promoted(make, metric, num_images, gain, rule)
            verdict = "as promised" if promise(count) else "NOT as promised"
            took = time.perf_counter() - began
            print(f"{name:<11} {num_images} images  {rule:<13} true gain {gain:+.2f}: promoted {count:3} of {TRIALS}  "
                  f"{verdict}  ({took:.0f} s)", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
