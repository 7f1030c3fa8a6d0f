"""How well joints are found: COCO's numbers by object keypoint similarity, and PCK."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stages.metrics import coco
from stages.metrics.average_precision import RECALLS, ResampledAP
from stages.metrics.joints import CROWD_LEVELS, Persons, crowd_index, head_sizes, matched, reference_sizes
from stages.params.skeleton import Skeleton

BOX_AREA_SHARE = 0.53  # of a person in their box, where no mask tells (crowdpose-api, xtcocotools)
PCKH_THRESHOLD = 0.5  # of the head segment (Andriluka et al. 2014, MPII)

Reference = Literal["torso", "box"]


@dataclass(frozen=True, eq=False)
class Prediction:
    """Whom a model finds in one image, in pixels of the original image."""

    key: str
    boxes_xyxy: NDArray[np.float32]  # [N, 4]
    scores: NDArray[np.float32]  # [N]
    labels: NDArray[np.int64]  # [N], class indices
    keypoints: NDArray[np.float32]  # [N, K, 3]: x, y, score


@dataclass(frozen=True, eq=False)
class Target:
    """Who is in one image, in pixels of the original image."""

    key: str
    width: int
    height: int
    boxes_xyxy: NDArray[np.float32]  # [M, 4]
    labels: NDArray[np.int64]  # [M], class indices
    is_crowd: NDArray[np.bool_]  # [M], True: a region whose detections are neither right nor wrong
    keypoints: NDArray[np.float32]  # [M, K, 3]: x, y, visibility; 0: not labelled, and the place means nothing
    areas: NDArray[np.float32] | None = None  # [M], what OKS goes by; None: BOX_AREA_SHARE of the boxes

    @property
    def oks_areas(self) -> NDArray[np.float64]:
        """Areas [M], square pixels."""
        if self.areas is not None:
            return self.areas.astype(np.float64)
        sides = self.boxes_xyxy[:, 2:].astype(np.float64) - self.boxes_xyxy[:, :2]
        return sides.prod(axis=1) * BOX_AREA_SHARE


@dataclass(frozen=True, eq=False)
class ResampledKeypoints:
    """ap, ap50, pck and, where heads are labelled, pckh over bootstrap resamples of images."""

    precision: ResampledAP
    counts: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]  # measure -> joints found and joints measured [N]

    @property
    def keys(self) -> Sequence[str]:
        """Image keys [N]."""
        return self.precision.keys

    def resample(self, weights: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """Values [R] by name for weights int64 [R, N]; NaN where a resample leaves nothing to measure."""
        shares = {}
        for name, (hits, measured) in self.counts.items():
            total = weights @ measured
            shares[name] = np.where(total > 0, (weights @ hits) / np.maximum(total, 1), np.nan)
        return self.precision.resample(weights) | shares


class KeypointMetric:
    """A state over images that merges: the same numbers whatever the order of batches.

    Images are taken in the order of their keys, classes in the order of class_names (COCO id = index + 1). A key that
    comes twice counts once (a distributed sampler fills its last batch with samples seen before).

    PCK is the share of labelled joints that are found within `threshold` of a size of their person: of the torso, from
    one shoulder to the hip of the other side (Sapp and Taskar 2013), or of the longer side of the box (Yang and Ramanan
    2013). Persons whose torso is not labelled are measured by OKS alone. Each person gets the prediction most like it
    by OKS, each prediction one person at most. per_image() is the share of joints for `by="pck"`, else F1 at OKS 0.5.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        skeleton: Skeleton,
        by: Literal["ap", "pck"] = "ap",
        reference: Reference = "torso",
        threshold: float = 0.2,
        score_threshold: float = 0.5,
    ) -> None:
        self.class_names, self.skeleton, self.by = tuple(class_names), skeleton, by
        self.reference, self.threshold, self.score_threshold = reference, threshold, score_threshold
        self.samples: dict[str, tuple[Prediction, Target]] = {}
        self._evaluation: coco.Evaluation | None = None
        self._persons: Persons | None = None

    def update(self, predictions: Sequence[Prediction], targets: Sequence[Target]) -> None:
        """Add images, one target to each prediction.

        ValueError when keys differ, arrays don't fit together, a number is not finite, a label is no class, or the
        target of a key changes.
        """
        for prediction, target in zip(predictions, targets, strict=True):
            self._check(prediction, target)
            self.samples.setdefault(prediction.key, (prediction, target))
        self._evaluation = self._persons = None

    def merge(self, other: "KeypointMetric") -> None:
        """Add the images of another state."""
        pairs = other.samples.values()
        self.update([prediction for prediction, _ in pairs], [target for _, target in pairs])

    def compute(self) -> dict[str, Any]:
        """All numbers over the images so far, ready for JSON; null where there is no truth to find.

        The 10 COCO numbers are pycocotools' own. ap_crowd_easy, _medium and _hard are the AP of the images whose crowd
        index is under 0.1, under 0.8, and the rest (Li et al. 2019, CrowdPose); without crowds all images are easy.
        """
        evaluation, persons = self._evaluate(), self._measure()
        return {
            "num_images": len(self.samples),
            "num_persons": int(sum(m.num_truth.sum() for m in evaluation.matches)),
            **evaluation.stats,
            **self._crowded(evaluation),
            "pck": persons.share("pck"),
            "pckh": persons.share("pckh"),
            "pck_reference": self.reference,
            "pck_threshold": self.threshold,
            "num_unmeasured": persons.num_unmeasured,
            "score_threshold": self.score_threshold,
            "per_class": self._per_class(evaluation),
            "per_joint": persons.per_joint(self.skeleton.joints),
            "precision_recall": self._precision_recall(evaluation),
        }

    def per_image(self) -> dict[str, float]:
        """How good each image is, by key; 1 where nothing is and nothing is found."""
        if self.by == "pck":
            hits, measured = self._measure().of_images("pck", len(self.samples))
            quality = np.where(measured > 0, hits / np.maximum(measured, 1), 1.0)
        else:
            matches, N = self._evaluate().matches, len(self.samples)
            hits = np.sum([np.bincount(m.images[self._counted(m, m.is_true)], minlength=N) for m in matches], axis=0)
            found = np.sum([np.bincount(m.images[self._counted(m, m.is_valid)], minlength=N) for m in matches], axis=0)
            persons = found + np.sum([m.num_truth for m in matches], axis=0)
            quality = np.where(persons > 0, 2 * hits / np.maximum(persons, 1), 1.0)
        return dict(zip(sorted(self.samples), quality.tolist(), strict=True))

    def worst(self, count: int) -> list[str]:
        """Keys of the images with the lowest per_image() value, the worst first."""
        quality = self.per_image()
        return sorted(quality, key=lambda key: (quality[key], key))[:count]

    def resampled(self) -> ResampledKeypoints:
        """ap, ap50, pck and pckh for bootstrap resamples of the images."""
        return self._resampled(list(range(len(self.class_names))))

    def part(self, keys: Iterable[str]) -> "KeypointMetric":
        """The state of some of the images."""
        part = KeypointMetric(
            self.class_names, self.skeleton, self.by, self.reference, self.threshold, self.score_threshold
        )
        part.samples = {key: self.samples[key] for key in keys}
        return part

    def by_class(self) -> dict[str, ResampledKeypoints]:
        """What resampled() gives, for each class that has labelled joints."""
        numbers = [k for k, found in enumerate(self._evaluate().matches) if found.num_truth.sum()]
        return {self.class_names[k]: self._resampled([k]) for k in numbers}

    def ground_truth(self) -> dict[str, Any]:
        """The truth as a COCO dataset; image ids are places in the sorted keys, from 1."""
        targets = self._sorted(1)
        annotations = [
            {"image_id": i, **annotation} for i, target in enumerate(targets, start=1) for annotation in _truths(target)
        ]
        joints = {
            "keypoints": list(self.skeleton.joints),
            "skeleton": [[a + 1, b + 1] for a, b in self.skeleton.edges],
        }
        return {
            "images": [
                {"id": i, "file_name": target.key, "width": target.width, "height": target.height}
                for i, target in enumerate(targets, start=1)
            ],
            "annotations": [{"id": i, **annotation} for i, annotation in enumerate(annotations, start=1)],
            "categories": [{"id": k, "name": name, **joints} for k, name in enumerate(self.class_names, start=1)],
        }

    def results(self) -> list[dict[str, Any]]:
        """The predictions as a COCO keypoint result list, with the ids of ground_truth()."""
        return [
            {"image_id": i, "category_id": label + 1, "keypoints": keypoints, "score": score}
            for i, prediction in enumerate(self._sorted(0), start=1)
            for label, keypoints, score in zip(
                prediction.labels.tolist(),
                prediction.keypoints.astype(np.float64).reshape(-1, 3 * len(self.skeleton)).tolist(),
                prediction.scores.tolist(),
                strict=True,
            )
        ]

    def _evaluate(self) -> coco.Evaluation:
        if not self.samples:
            raise ValueError("no image was evaluated: the split is empty, or update() was never called")
        if self._evaluation is None:
            self._evaluation = coco.evaluate(self.ground_truth(), self.results(), "keypoints", self.skeleton.sigmas)
        return self._evaluation

    def _measure(self) -> Persons:
        """Each labelled person's joints, found or not."""
        if self._persons is None:
            self._persons = Persons.joined(
                [self._persons_of(i, *self.samples[key]) for i, key in enumerate(sorted(self.samples))]
            )
        return self._persons

    def _persons_of(self, image: int, prediction: Prediction, target: Target) -> Persons:
        shown = np.flatnonzero((target.keypoints[..., 2] > 0).any(axis=1) & ~target.is_crowd)
        truth = target.keypoints[shown].astype(np.float64)
        found = matched(
            truth, target.labels[shown], target.oks_areas[shown],
            prediction.keypoints, prediction.labels, np.array(self.skeleton.sigmas),
        )  # fmt: skip
        boxes = target.boxes_xyxy[shown].astype(np.float64)
        sizes = {
            "pck": self.threshold * reference_sizes(truth, boxes, self.skeleton, self.reference),
            "pckh": PCKH_THRESHOLD * head_sizes(truth, self.skeleton),
        }
        return Persons.measured(image, target.labels[shown], truth, found, sizes)

    def _resampled(self, classes: Sequence[int]) -> ResampledKeypoints:
        keys, matches, persons = tuple(sorted(self.samples)), self._evaluate().matches, self._measure()
        chosen = persons.of_classes(classes)
        names = [name for name in ("pck", "pckh") if persons.share(name) is not None]
        counts = {name: chosen.of_images(name, len(keys)) for name in names}
        return ResampledKeypoints(ResampledAP(keys, [matches[k] for k in classes]), counts)

    def _crowded(self, evaluation: coco.Evaluation) -> dict[str, float | None]:
        indices = np.array([crowd_index(target) for target in self._sorted(1)])
        levels = np.digitize(indices, list(CROWD_LEVELS.values())[1:])
        weights = np.stack([levels == level for level in range(len(CROWD_LEVELS))]).astype(np.int64)
        values = ResampledAP(tuple(sorted(self.samples)), evaluation.matches).resample(weights)["ap"]
        named = zip(CROWD_LEVELS, values, strict=True)
        return {f"ap_crowd_{name}": float(value) if np.isfinite(value) else None for name, value in named}

    def _per_class(self, evaluation: coco.Evaluation) -> dict[str, Any]:
        return {
            name: {
                "ap": coco.defined(evaluation.precision[:, :, k].mean()),
                "ap50": coco.defined(evaluation.precision[coco.IOU_50, :, k].mean()),
                "pck": self._measure().of_classes([k]).share("pck"),
                "num_truth": int(evaluation.matches[k].num_truth.sum()),
            }
            for k, name in enumerate(self.class_names)
            if evaluation.matches[k].num_truth.sum()
        }

    def _precision_recall(self, evaluation: coco.Evaluation) -> dict[str, Any]:
        """Precision as curves by class, for those that have truth."""
        curves = {
            name: {
                "iou_50": evaluation.precision[coco.IOU_50, :, k].tolist(),
                "iou_50_95": evaluation.precision[:, :, k].mean(axis=0).tolist(),
            }
            for k, name in enumerate(self.class_names)
            if evaluation.matches[k].num_truth.sum()
        }
        return {"recall": RECALLS.tolist(), "per_class": curves}

    def _counted(self, matches: coco.Matches, which: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return which[coco.IOU_50] & (matches.scores >= self.score_threshold)

    def _sorted(self, part: int) -> list[Any]:
        return [self.samples[key][part] for key in sorted(self.samples)]

    def _check(self, prediction: Prediction, target: Target) -> None:
        if prediction.key != target.key:
            raise ValueError(f"the prediction of image {prediction.key} came with the target of {target.key}")
        seen = self.samples.get(target.key)
        if seen and not (
            np.array_equal(seen[1].keypoints, target.keypoints) and np.array_equal(seen[1].labels, target.labels)
        ):
            raise ValueError(f"image {target.key} came twice with different targets: use unique keys")
        areas = target.areas if target.areas is not None else target.labels
        self._check_arrays(f"prediction of image {target.key}", prediction, prediction.scores)
        self._check_arrays(f"target of image {target.key}", target, target.is_crowd, areas)

    def _check_arrays(self, what: str, side: Prediction | Target, *columns: NDArray[Any]) -> None:
        N = len(side.labels)
        arrays: list[NDArray[Any]] = [side.boxes_xyxy, side.keypoints, side.labels, *columns]
        shapes = [array.shape for array in arrays]
        if shapes != [(N, 4), (N, len(self.skeleton), 3), *[(N,)] * (1 + len(columns))]:
            raise ValueError(
                f"{what}: shapes {shapes} must be [N, 4] for boxes_xyxy, [N, {len(self.skeleton)}, 3] for keypoints "
                "and [N] for the rest"
            )
        if not all(np.isfinite(array).all() for array in arrays):
            raise ValueError(f"{what}: a joint, box, score or area is not finite; did the training diverge?")
        if N and not 0 <= side.labels.min() <= side.labels.max() < len(self.class_names):
            found = f"labels from {side.labels.min()} to {side.labels.max()}"
            raise ValueError(f"{what}: {found}, but the {len(self.class_names)} classes count from 0")


def _truths(target: Target) -> list[dict[str, Any]]:
    """COCO's annotations of an image, without ids."""
    boxes = target.boxes_xyxy.astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    joints = target.keypoints.astype(np.float64)
    return [
        {
            "category_id": int(target.labels[i]) + 1,
            "bbox": boxes[i].tolist(),
            "area": float(target.oks_areas[i]),
            "iscrowd": int(target.is_crowd[i]),
            "keypoints": joints[i].ravel().tolist(),
            "num_keypoints": int((joints[i, :, 2] > 0).sum()),
        }
        for i in range(len(boxes))
    ]
