"""How well joints are found: COCO's numbers by object keypoint similarity, and PCK."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stages.metrics import detection, ranking
from stages.metrics.average_precision import ResampledAP
from stages.metrics.detection import DetectionMetric
from stages.metrics.joints import CROWD_LEVELS, Persons, crowd_index, head_sizes, matched, reference_sizes
from stages.params.skeleton import Skeleton

BOX_AREA_SHARE = 0.53  # of a person in their box, where no mask tells (crowdpose-api, xtcocotools)
PCKH_THRESHOLD = 0.5  # of the head segment (Andriluka et al. 2014, MPII)

Reference = Literal["torso", "box"]


@dataclass(frozen=True, eq=False)
class Prediction(detection.Prediction):
    """Whom a model finds in one image, in pixels of the original image."""

    keypoints: NDArray[np.float32]  # [N, K, 3]: x, y, score

    def more(self) -> list[dict[str, Any]]:
        """The joints as COCO's `keypoints`."""
        return [{"keypoints": joints} for joints in _flat(self.keypoints)]


@dataclass(frozen=True, eq=False)
class Target(detection.Target):
    """Who is in one image, in pixels of the original image; OKS goes by the areas."""

    keypoints: NDArray[np.float32] = field(kw_only=True)  # [M, K, 3]: x, y, visibility; 0: not labelled, set anywhere

    @property
    def measured_areas(self) -> NDArray[np.float64]:
        """The areas [M], square pixels; BOX_AREA_SHARE of the boxes where none are known."""
        return super().measured_areas * (BOX_AREA_SHARE if self.areas is None else 1.0)

    def more(self) -> list[dict[str, Any]]:
        """The joints as COCO's `keypoints`, and how many are labelled."""
        labelled = (self.keypoints[..., 2] > 0).sum(axis=1).tolist()
        rows = zip(_flat(self.keypoints), labelled, strict=True)
        return [{"keypoints": joints, "num_keypoints": count} for joints, count in rows]


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
        self.skeleton, self.by, self.reference, self.threshold = skeleton, by, reference, threshold
        self.similar = DetectionMetric(class_names, score_threshold, "keypoints", skeleton.sigmas)
        self._persons: Persons | None = None

    @property
    def samples(self) -> dict[str, Any]:
        """Prediction and target of each image."""
        return self.similar.samples

    @property
    def class_names(self) -> tuple[str, ...]:
        """Whose joints are found."""
        return self.similar.class_names

    @property
    def score_threshold(self) -> float:
        """From which score on a person counts as found."""
        return self.similar.score_threshold

    def update(self, predictions: Sequence[Prediction], targets: Sequence[Target]) -> None:
        """Add images; ValueError as DetectionMetric, and where joints do not fit labels or skeleton."""
        for prediction, target in zip(predictions, targets, strict=True):
            _check(f"prediction of image {prediction.key}", prediction, len(self.skeleton))
            _check(f"target of image {target.key}", target, len(self.skeleton))
        self.similar.update(predictions, targets)
        self._persons = None

    def merge(self, other: "KeypointMetric") -> None:
        """Add the images of another state."""
        self.similar.merge(other.similar)
        self._persons = None

    def compute(self) -> dict[str, Any]:
        """All numbers over the images so far, ready for JSON; null where there is no truth to find.

        The 10 COCO numbers are pycocotools' own. ap_crowd_easy, _medium and _hard are the AP of the images whose crowd
        index is under 0.1, under 0.8, and the rest (Li et al. 2019, CrowdPose); without crowds all images are easy.
        """
        similar, persons = self.similar.compute(), self._measure()
        shown = {name: row for name, row in similar["per_class"].items() if row["num_truth"]}
        curves = similar["precision_recall"]
        return {
            "num_images": similar["num_images"],
            "num_persons": sum(row["num_truth"] for row in shown.values()),
            **self.similar.evaluation().stats,
            **self._crowded(),
            "pck": persons.share("pck"),
            "pckh": persons.share("pckh"),
            "pck_reference": self.reference,
            "pck_threshold": self.threshold,
            "num_unmeasured": persons.num_unmeasured,
            "score_threshold": self.score_threshold,
            "per_class": {
                name: row | {"pck": persons.of_classes([self.class_names.index(name)]).share("pck")}
                for name, row in shown.items()
            },
            "per_joint": persons.per_joint(self.skeleton.joints),
            "precision_recall": curves | {"per_class": {name: curves["per_class"][name] for name in shown}},
        }

    def per_image(self) -> dict[str, float]:
        """How good each image is, by key; 1 where nothing is and nothing is found."""
        if self.by == "ap":
            return self.similar.per_image()
        hits, measured = self._measure().of_images("pck", len(self.samples))
        quality = np.where(measured > 0, hits / np.maximum(measured, 1), 1.0)
        return dict(zip(sorted(self.samples), quality.tolist(), strict=True))

    def worst(self, count: int) -> list[str]:
        """Keys of the images with the lowest per_image() value, the worst first."""
        return ranking.worst(self.per_image(), count)

    def resampled(self) -> ResampledKeypoints:
        """ap, ap50, pck and pckh for bootstrap resamples of the images."""
        return self._resampled(list(range(len(self.class_names))))

    def part(self, keys: Iterable[str]) -> "KeypointMetric":
        """The state of some of the images."""
        part = KeypointMetric(
            self.class_names, self.skeleton, self.by, self.reference, self.threshold, self.score_threshold
        )
        part.similar = self.similar.part(keys)
        return part

    def by_class(self) -> dict[str, ResampledKeypoints]:
        """What resampled() gives, for each class that has labelled joints."""
        numbers = [k for k, found in enumerate(self.similar.evaluation().matches) if found.num_truth.sum()]
        return {self.class_names[k]: self._resampled([k]) for k in numbers}

    def ground_truth(self) -> dict[str, Any]:
        """The truth as a COCO dataset; image ids are places in the sorted keys, from 1."""
        truth = self.similar.ground_truth()
        joints = {
            "keypoints": list(self.skeleton.joints),
            "skeleton": [[a + 1, b + 1] for a, b in self.skeleton.edges],
        }
        return truth | {"categories": [category | joints for category in truth["categories"]]}

    def results(self) -> list[dict[str, Any]]:
        """The predictions as a COCO keypoint result list, with the ids of ground_truth()."""
        return self.similar.results()

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
            truth, target.labels[shown], target.measured_areas[shown],
            prediction.keypoints, prediction.labels, np.array(self.skeleton.sigmas),
        )  # fmt: skip
        boxes = target.boxes_xyxy[shown].astype(np.float64)
        sizes = {
            "pck": self.threshold * reference_sizes(truth, boxes, self.skeleton, self.reference),
            "pckh": PCKH_THRESHOLD * head_sizes(truth, self.skeleton),
        }
        return Persons.measured(image, target.labels[shown], truth, found, sizes)

    def _resampled(self, classes: Sequence[int]) -> ResampledKeypoints:
        keys, matches, persons = tuple(sorted(self.samples)), self.similar.evaluation().matches, self._measure()
        chosen = persons.of_classes(classes)
        names = [name for name in ("pck", "pckh") if persons.share(name) is not None]
        counts = {name: chosen.of_images(name, len(keys)) for name in names}
        return ResampledKeypoints(ResampledAP(keys, [matches[k] for k in classes]), counts)

    def _crowded(self) -> dict[str, float | None]:
        indices = np.array([crowd_index(self.samples[key][1]) for key in sorted(self.samples)])
        levels = np.digitize(indices, list(CROWD_LEVELS.values())[1:])
        weights = np.stack([levels == level for level in range(len(CROWD_LEVELS))]).astype(np.int64)
        named = zip(CROWD_LEVELS, self.similar.resampled().resample(weights)["ap"], strict=True)
        return {f"ap_crowd_{name}": float(value) if np.isfinite(value) else None for name, value in named}


def _check(what: str, image: Prediction | Target, num_joints: int) -> None:
    if image.keypoints.shape != (len(image.labels), num_joints, 3):
        raise ValueError(
            f"{what}: shape {image.keypoints.shape} must be [N, {num_joints}, 3] for keypoints, {len(image.labels)} "
            "labels for N"
        )
    if not np.isfinite(image.keypoints).all():
        raise ValueError(f"{what}: a joint is not finite; did the training diverge?")


def _flat(keypoints: NDArray[Any]) -> list[list[float]]:
    return keypoints.astype(np.float64).reshape(-1, 3 * keypoints.shape[1]).tolist()
