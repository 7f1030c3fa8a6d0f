"""Pascal VOC's average precision, which COCO's replaced: one IoU threshold, two ways of interpolating.

Source: Everingham et al. 2010, "The Pascal Visual Object Classes challenge", section 4.2 (every eleventh recall, to
2009), and the development kit of 2012, section 3.4.1 (the area under the curve, since 2010).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stages.metrics.detection import Prediction, Target

Interpolation = Literal["every_point", "eleven_point"]
# The kit's boxes count whole pixels: from 3 to 5 are 3 pixels.
_PIXEL = 1.0


@dataclass(frozen=True, eq=False)
class Matches:
    """The detections of one class over all images, best score first, each right or wrong."""

    keys: list[str]  # [D], of the image
    scores: NDArray[np.float64]  # [D]
    is_true: NDArray[np.bool_]  # [D]
    num_truth: int

    def of_image(self, key: str) -> NDArray[np.bool_]:
        """Which of an image's detections are right, best score first."""
        return self.is_true[[k == key for k in self.keys]]


def average_precision(matches: Matches, interpolation: Interpolation = "every_point") -> float | None:
    """Average precision in [0, 1]; None without truth."""
    if not matches.num_truth:
        return None
    hits = np.cumsum(matches.is_true)
    recall = np.concatenate([[0.0], hits / matches.num_truth, [1.0]])
    precision = np.concatenate([[0.0], hits / np.arange(1, len(hits) + 1), [0.0]])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if interpolation == "every_point":
        return float((np.diff(recall) * envelope[1:]).sum())
    # In doubles, as the published answers: the seventh of eleven is a little over 0.6, so that 9 of 15 do not reach it.
    at = np.searchsorted(recall[:-1], np.linspace(0, 1, 11))
    return float(np.append(envelope[:-1], 0.0)[at].mean())


def mean_average_precision(
    predictions: Sequence[Prediction],
    targets: Sequence[Target],
    num_classes: int,
    iou: float = 0.5,
    interpolation: Interpolation = "every_point",
) -> float | None:
    """Mean over the classes that the truth has; None when it has none."""
    found = [average_precision(match(predictions, targets, k, iou), interpolation) for k in range(num_classes)]
    values = [value for value in found if value is not None]
    return float(np.mean(values)) if values else None


def match(predictions: Sequence[Prediction], targets: Sequence[Target], label: int, iou: float = 0.5) -> Matches:
    """The detections of a class against the truth, one target to each prediction.

    A detection is judged by the box that it overlaps most: right if the IoU is at least `iou` and no better detection
    took that box, else wrong; left out if the box is a crowd (the kit's "difficult").
    """
    taken = {target.key: np.zeros(len(target.labels), bool) for target in targets}
    truth = {target.key: target for target in targets}
    rows = sorted(
        (
            (float(score), i, prediction.key, box)
            for prediction in predictions
            for i, (score, box, k) in enumerate(
                zip(prediction.scores, prediction.boxes_xyxy, prediction.labels, strict=True)
            )
            if k == label
        ),
        key=lambda row: -row[0],
    )
    judged = [(key, score, _judge(box, truth[key], taken[key], label, iou)) for score, _, key, box in rows]
    kept = [(key, score, is_true) for key, score, is_true in judged if is_true is not None]
    return Matches(
        [key for key, _, _ in kept],
        np.array([score for _, score, _ in kept], np.float64),
        np.array([is_true for _, _, is_true in kept], bool),
        sum(int(((target.labels == label) & ~target.is_crowd).sum()) for target in targets),
    )


def _judge(box: NDArray[np.float32], target: Target, taken: NDArray[np.bool_], label: int, iou: float) -> bool | None:
    """Right, wrong, or None for a detection that does not count; a box that is found is taken."""
    ious = np.where(target.labels == label, _ious(box, target.boxes_xyxy), -1.0)
    if not len(ious) or ious.max() < iou:
        return False
    best = int(ious.argmax())
    if target.is_crowd[best]:
        return None
    is_first = not taken[best]
    taken[best] = True
    return is_first


def _ious(box: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    one, many = box.astype(np.float64), boxes.astype(np.float64)
    sides = np.minimum(one[2:], many[:, 2:]) - np.maximum(one[:2], many[:, :2]) + _PIXEL
    shared = sides.clip(min=0).prod(axis=1)
    areas = (many[:, 2:] - many[:, :2] + _PIXEL).prod(axis=1)
    return shared / (areas + (one[2:] - one[:2] + _PIXEL).prod() - shared)
