"""How well objects are found: COCO's numbers, per-class AP, and what a score threshold gives."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.metrics import coco, ranking
from stages.metrics.average_precision import RECALLS, ResampledAP


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a detector finds in one image, boxes in pixels of the original image."""

    key: str
    boxes_xyxy: NDArray[np.float32]  # [N, 4]
    scores: NDArray[np.float32]  # [N]
    labels: NDArray[np.int64]  # [N], class indices

    def more(self) -> list[dict[str, Any]]:
        """What else a COCO result says of each detection; for kinds that find more than boxes."""
        return [{}] * len(self.labels)


@dataclass(frozen=True, eq=False)
class Target:
    """What is in one image, boxes in pixels of the original image."""

    key: str
    width: int
    height: int
    boxes_xyxy: NDArray[np.float32]  # [M, 4]
    labels: NDArray[np.int64]  # [M], class indices
    is_crowd: NDArray[np.bool_]  # [M], True: a region whose detections are neither right nor wrong
    areas: NDArray[np.float32] | None = None  # [M], what COCO's small/medium/large go by; None: of the boxes

    @property
    def measured_areas(self) -> NDArray[np.float64]:
        """The areas [M], square pixels; of the boxes where none are known."""
        if self.areas is not None:
            return self.areas.astype(np.float64)
        return _xywh(self.boxes_xyxy)[:, 2:].prod(axis=1)

    def more(self) -> list[dict[str, Any]]:
        """What else a COCO annotation says of each object; for kinds that find more than boxes."""
        return [{}] * len(self.labels)


class DetectionMetric:
    """A state over images that merges: the same numbers whatever the order of batches.

    Images are taken in the order of their keys, classes in the order of class_names (COCO id = index + 1). Boxes,
    scores and areas of any float type are used as they are. A key that comes twice counts once (a distributed sampler
    fills its last batch with samples seen before). iou_type: what has to overlap for a match, COCOeval's word for it;
    sigmas: of joints, where they have to.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        score_threshold: float = 0.5,
        iou_type: coco.IouType = "bbox",
        sigmas: Sequence[float] = (),
    ) -> None:
        self.class_names, self.score_threshold = tuple(class_names), score_threshold
        self.iou_type, self.sigmas = iou_type, tuple(sigmas)
        self.samples: dict[str, tuple[Prediction, Target]] = {}
        self._evaluation: coco.Evaluation | None = None

    def update(self, predictions: Sequence[Prediction], targets: Sequence[Target]) -> None:
        """Add images, one target to each prediction.

        ValueError when keys differ, arrays don't fit together, a number is not finite, a label is no class, or the
        target of a key changes.
        """
        for prediction, target in zip(predictions, targets, strict=True):
            self._check(prediction, target)
            self.samples.setdefault(prediction.key, (prediction, target))
        self._evaluation = None

    def merge(self, other: "DetectionMetric") -> None:
        """Add the images of another state."""
        pairs = other.samples.values()
        self.update([prediction for prediction, _ in pairs], [target for _, target in pairs])

    def compute(self) -> dict[str, Any]:
        """All numbers over the images so far, ready for JSON; null where there is no truth to find.

        The 12 COCO numbers are pycocotools' own. mean_iou is over the pairs that COCO matches at IoU 0.5 (greedy, best
        score first, within a class) among detections of at least score_threshold, crowds left out.
        """
        evaluation = self.evaluation()
        matches, precision = evaluation.matches, evaluation.precision
        ious = np.concatenate([m.ious_50[self._is_hit(m)] for m in matches])
        return {
            "num_images": len(self.samples),
            **evaluation.stats,
            "mean_iou": float(ious.mean()) if len(ious) else None,
            "num_matched": len(ious),
            "score_threshold": self.score_threshold,
            "per_class": {
                name: {
                    "ap": coco.defined(precision[:, :, k].mean()),
                    "ap50": coco.defined(precision[coco.IOU_50, :, k].mean()),
                    "num_truth": int(matches[k].num_truth.sum()),
                }
                for k, name in enumerate(self.class_names)
            },
            "precision_recall": self._precision_recall(precision),
        }

    def per_image(self) -> dict[str, float]:
        """F1 at IoU 0.5 of the detections of at least score_threshold, by key.

        1 where nothing is and nothing is found.
        """
        matches = self.evaluation().matches
        num_images = len(self.samples)
        hits = sum(np.bincount(m.images[self._is_hit(m)], minlength=num_images) for m in matches)
        found = sum(np.bincount(m.images[self._is_counted(m)], minlength=num_images) for m in matches)
        boxes = found + sum(m.num_truth for m in matches)
        f1 = np.where(boxes > 0, 2 * hits / np.maximum(boxes, 1), 1.0)
        return dict(zip(sorted(self.samples), f1.tolist(), strict=True))

    def worst(self, count: int) -> list[str]:
        """Keys of the images with the lowest per_image() value, the worst first."""
        return ranking.worst(self.per_image(), count)

    def resampled(self) -> ResampledAP:
        """ap and ap50 for bootstrap resamples of the images."""
        return ResampledAP(tuple(sorted(self.samples)), self.evaluation().matches)

    def part(self, keys: Iterable[str]) -> "DetectionMetric":
        """The state of some of the images."""
        part = DetectionMetric(self.class_names, self.score_threshold, self.iou_type, self.sigmas)
        part.samples = {key: self.samples[key] for key in keys}
        return part

    def by_class(self) -> dict[str, ResampledAP]:
        """What resampled() gives, for each class that the truth has."""
        keys, matches = tuple(sorted(self.samples)), self.evaluation().matches
        named = zip(self.class_names, matches, strict=True)
        return {name: ResampledAP(keys, [found]) for name, found in named if found.num_truth.sum()}

    def evaluation(self) -> coco.Evaluation:
        """What pycocotools finds for the images so far, in the order of their keys; ValueError without any."""
        if not self.samples:
            raise ValueError("no image was evaluated: the split is empty, or update() was never called")
        if self._evaluation is None:
            self._evaluation = coco.evaluate(self.ground_truth(), self.results(), self.iou_type, self.sigmas)
        return self._evaluation

    def ground_truth(self) -> dict[str, Any]:
        """The truth as a COCO dataset; image ids are places in the sorted keys, from 1."""
        targets = self._sorted(1)
        annotations = [
            {"image_id": i, "category_id": label + 1, "bbox": bbox, "area": area, "iscrowd": int(is_crowd), **more}
            for i, target in enumerate(targets, start=1)
            for (label, bbox, area, is_crowd), more in zip(_rows(target), target.more(), strict=True)
        ]
        return {
            "images": [
                {"id": i, "file_name": target.key, "width": target.width, "height": target.height}
                for i, target in enumerate(targets, start=1)
            ],
            "annotations": [{"id": i, **annotation} for i, annotation in enumerate(annotations, start=1)],
            "categories": [{"id": k, "name": name} for k, name in enumerate(self.class_names, start=1)],
        }

    def results(self) -> list[dict[str, Any]]:
        """The predictions as a COCO result list, with the ids of ground_truth().

        Boxes are only in those that are measured by them: loadRes of pycocotools takes an area from them where it can.
        """
        return [
            {"image_id": i, "category_id": label + 1, "score": score, **found}
            for i, prediction in enumerate(self._sorted(0), start=1)
            for label, score, found in zip(
                prediction.labels.tolist(),
                prediction.scores.tolist(),
                _boxes(prediction) if self.iou_type == "bbox" else prediction.more(),
                strict=True,
            )
        ]

    def _sorted(self, part: int) -> list[Any]:
        return [self.samples[key][part] for key in sorted(self.samples)]

    def _is_counted(self, matches: coco.Matches) -> NDArray[np.bool_]:
        return matches.is_valid[coco.IOU_50] & (matches.scores >= self.score_threshold)

    def _is_hit(self, matches: coco.Matches) -> NDArray[np.bool_]:
        return matches.is_true[coco.IOU_50] & (matches.scores >= self.score_threshold)

    def _precision_recall(self, precision: NDArray[np.float64]) -> dict[str, Any]:
        """Precision [T, 101, K] as curves by class; null for a class without truth."""
        curves = {
            name: {
                "iou_50": precision[coco.IOU_50, :, k].tolist(),
                "iou_50_95": precision[:, :, k].mean(axis=0).tolist(),
            }
            if precision[0, 0, k] >= 0
            else None
            for k, name in enumerate(self.class_names)
        }
        return {"recall": RECALLS.tolist(), "per_class": curves}

    def _check(self, prediction: Prediction, target: Target) -> None:
        if prediction.key != target.key:
            raise ValueError(f"the prediction of image {prediction.key} came with the target of {target.key}")
        seen = self.samples.get(target.key)
        if seen and not _same(seen[1], target):
            raise ValueError(f"image {target.key} came twice with different targets: use unique keys")
        areas = target.areas if target.areas is not None else target.labels
        _check_boxes(f"prediction of image {target.key}", prediction.boxes_xyxy, prediction.labels, prediction.scores)
        _check_boxes(f"target of image {target.key}", target.boxes_xyxy, target.labels, target.is_crowd, areas)
        for labels in (prediction.labels, target.labels):
            if len(labels) and not 0 <= labels.min() <= labels.max() < len(self.class_names):
                found = f"labels from {labels.min()} to {labels.max()}"
                raise ValueError(f"image {target.key}: {found}, but the {len(self.class_names)} classes count from 0")


def _check_boxes(what: str, boxes_xyxy: NDArray[Any], *columns: NDArray[Any]) -> None:
    shapes = [boxes_xyxy.shape, *(column.shape for column in columns)]
    if shapes != [(len(boxes_xyxy), 4), *[(len(boxes_xyxy),)] * len(columns)]:
        raise ValueError(f"{what}: shapes {shapes} must be [N, 4] for boxes_xyxy and [N] for the rest")
    if not all(np.isfinite(values).all() for values in (boxes_xyxy, *columns)):
        raise ValueError(f"{what}: a box, score or area is not finite; did the training diverge?")


def _same(a: Target, b: Target) -> bool:
    return np.array_equal(a.boxes_xyxy, b.boxes_xyxy) and np.array_equal(a.labels, b.labels) and a.more() == b.more()


def _boxes(prediction: Prediction) -> list[dict[str, Any]]:
    return [{"bbox": bbox} for bbox in _xywh(prediction.boxes_xyxy).tolist()]


def _xywh(boxes_xyxy: NDArray[Any]) -> NDArray[np.float64]:
    boxes = boxes_xyxy.astype(np.float64)
    return np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])


def _rows(target: Target) -> list[tuple[int, list[float], float, bool]]:
    """label, box (x, y, width, height), area, is_crowd of each object."""
    columns = (target.labels, _xywh(target.boxes_xyxy), target.measured_areas, target.is_crowd)
    return list(zip(*(column.tolist() for column in columns), strict=True))
