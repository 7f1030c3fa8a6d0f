"""Joints against joints: similarity, sizes of a person, how crowded an image is, and what PCK counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from stages.params.skeleton import Skeleton

# Lowest crowd index of each level (crowdpose-api).
CROWD_LEVELS = {"easy": 0.0, "medium": 0.1, "hard": 0.8}
_DIAGONALS = ((("left", "shoulder"), ("right", "hip")), (("right", "shoulder"), ("left", "hip")))


class Crowd(Protocol):
    """What crowd_index looks at: stages.metrics.keypoints.Target."""

    @property
    def boxes_xyxy(self) -> NDArray[np.float32]: ...

    @property
    def keypoints(self) -> NDArray[np.float32]: ...


def object_keypoint_similarity(
    truth: NDArray[Any], areas: NDArray[Any], found: NDArray[Any], sigmas: NDArray[Any]
) -> NDArray[np.float64]:
    """OKS [M, N] (cocodataset.org/#keypoints-eval) of truth [M, K, 3] and predictions [N, K, 3]; areas [M], sigmas [K].

    The mean over labelled joints of exp(-d² / (2 area (2 sigma)²)); 0 for a person without any.
    """
    distance = ((truth[:, None, :, :2] - found[None, :, :, :2].astype(np.float64)) ** 2).sum(axis=3)
    spread = 2 * (areas[:, None, None] + np.spacing(1)) * (2 * sigmas) ** 2
    is_labelled = (truth[..., 2] > 0)[:, None, :]
    return (np.exp(-distance / spread) * is_labelled).sum(axis=2) / np.maximum(is_labelled.sum(axis=2), 1)


def matched(
    truth: NDArray[Any],
    labels: NDArray[Any],
    areas: NDArray[Any],
    found: NDArray[Any],
    found_labels: NDArray[Any],
    sigmas: NDArray[Any],
) -> NDArray[np.float64]:
    """The joints [M, K, 2] predicted for each person: pairs by falling OKS, of one class; NaN for one left without."""
    similarity = object_keypoint_similarity(truth, areas, found, sigmas)
    similarity[labels[:, None] != found_labels[None, :]] = -1
    points = np.full((*truth.shape[:2], 2), np.nan)
    taken: set[int] = set()
    given: set[int] = set()
    for place in np.argsort(-similarity, axis=None, kind="stable").tolist():
        person, other = divmod(place, found.shape[0])
        if similarity[person, other] >= 0 and person not in given and other not in taken:
            points[person] = found[other, :, :2]
            given.add(person)
            taken.add(other)
    return points


def reference_sizes(
    truth: NDArray[Any], boxes_xyxy: NDArray[Any], skeleton: Skeleton, reference: Literal["torso", "box"]
) -> NDArray[np.float64]:
    """The size [M] in pixels that PCK goes by; NaN for a person whose torso is not labelled."""
    if reference == "box":
        return np.max(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], axis=1) if len(boxes_xyxy) else np.zeros(0)
    sizes = np.full(len(truth), np.nan)
    for ends in _DIAGONALS:
        lengths = _lengths(truth, *(skeleton.find(*words) for words in ends))
        sizes = np.where(np.isnan(sizes), lengths, sizes)
    return sizes


def has_torso(skeleton: Skeleton) -> bool:
    """Whether the joints have a shoulder and the hip of the other side."""
    return any(all(skeleton.find(*words) is not None for words in ends) for ends in _DIAGONALS)


def head_sizes(truth: NDArray[Any], skeleton: Skeleton) -> NDArray[np.float64]:
    """The head segment [M] in pixels, from neck to the top of the head; NaN where it is not labelled.

    MPII's own program takes 0.6 of the diagonal of a head box, which only MPII has.
    """
    top = next((n for words in (("head", "top"), ("head",)) if (n := skeleton.find(*words)) is not None), None)
    below = (("upper", "neck"), ("neck",), ("head", "bottom"))
    neck = next((n for words in below if (n := skeleton.find(*words)) is not None), None)
    return _lengths(truth, top, neck) if top != neck else np.full(len(truth), np.nan)


def _lengths(truth: NDArray[Any], start: int | None, end: int | None) -> NDArray[np.float64]:
    """Distance [M] of two joints; NaN where one is not labelled or both are at one place."""
    if start is None or end is None:
        return np.full(len(truth), np.nan)
    distance = np.linalg.norm(truth[:, start, :2] - truth[:, end, :2], axis=1)
    return np.where((truth[:, start, 2] > 0) & (truth[:, end, 2] > 0) & (distance > 0), distance, np.nan)


def crowd_index(crowd: Crowd) -> float:
    """Mean over persons of others' joints in their box over their own joints (Li et al. 2019, equation 3).

    Persons without a labelled joint are left out, as in the index that CrowdPose's files give with each image.
    """
    labelled = crowd.keypoints[..., 2] > 0
    x, y = crowd.keypoints[None, ..., 0], crowd.keypoints[None, ..., 1]
    x1, y1, x2, y2 = (crowd.boxes_xyxy[:, i, None, None] for i in range(4))
    is_inside = (x >= x1) & (x <= x2) & (y >= y1) & (y <= y2) & labelled[None]
    inside = is_inside.sum(axis=2)  # [person of the box, person of the joints]
    own = labelled.sum(axis=1)
    others = inside.sum(axis=1) - np.diag(inside)
    ratios = others[own > 0] / own[own > 0]
    return float(ratios.mean()) if len(ratios) else 0.0


@dataclass(frozen=True, eq=False)
class Persons:
    """P labelled persons of all images, and which of their joints were found by each measure."""

    images: NDArray[np.int64]  # [P], place of the image
    labels: NDArray[np.int64]  # [P]
    hits: Mapping[str, NDArray[np.bool_]]  # measure -> [P, K], found near enough
    is_measured: Mapping[str, NDArray[np.bool_]]  # measure -> [P, K], labelled, and the person's size is known

    @classmethod
    def measured(
        cls,
        image: int,
        labels: NDArray[np.int64],
        truth: NDArray[Any],
        found: NDArray[np.float64],
        most_px: Mapping[str, NDArray[np.float64]],
    ) -> "Persons":
        """Those of one image: truth [P, K, 3], found [P, K, 2], and for each measure how far a joint may be off [P]."""
        with np.errstate(invalid="ignore"):
            distance = np.linalg.norm(truth[..., :2] - found, axis=2)
            hits = {name: distance <= most[:, None] for name, most in most_px.items()}
        measured = {name: (truth[..., 2] > 0) & np.isfinite(most)[:, None] for name, most in most_px.items()}
        hits = {name: hits[name] & measured[name] for name in hits}
        return cls(np.full(len(labels), image, np.int64), labels, hits, measured)

    @classmethod
    def joined(cls, parts: Sequence["Persons"]) -> "Persons":
        """The persons of several images, at least one."""
        return cls(
            np.concatenate([part.images for part in parts]),
            np.concatenate([part.labels for part in parts]),
            {name: np.concatenate([part.hits[name] for part in parts]) for name in parts[0].hits},
            {name: np.concatenate([part.is_measured[name] for part in parts]) for name in parts[0].hits},
        )

    def of_classes(self, classes: Sequence[int]) -> "Persons":
        """Those of some classes."""
        chosen = np.isin(self.labels, classes)
        return Persons(
            self.images[chosen],
            self.labels[chosen],
            {name: hits[chosen] for name, hits in self.hits.items()},
            {name: measured[chosen] for name, measured in self.is_measured.items()},
        )

    @property
    def num_unmeasured(self) -> int:
        """Persons without the size that PCK goes by."""
        return int((~self.is_measured["pck"].any(axis=1)).sum())

    def share(self, measure: str) -> float | None:
        """Joints found over joints measured; None without any."""
        total = int(self.is_measured[measure].sum())
        return float(self.hits[measure].sum() / total) if total else None

    def per_joint(self, names: Sequence[str]) -> dict[str, dict[str, float | int | None]]:
        """Joint -> pck, pckh where heads are labelled, and how many were labelled."""
        shown = [measure for measure in self.hits if measure == "pck" or self.share(measure) is not None]
        return {
            name: {
                **{measure: self._share_of_joint(measure, k) for measure in shown},
                "num_truth": int(self.is_measured["pck"][:, k].sum()),
            }
            for k, name in enumerate(names)
        }

    def _share_of_joint(self, measure: str, joint: int) -> float | None:
        total = int(self.is_measured[measure][:, joint].sum())
        return float(self.hits[measure][:, joint].sum() / total) if total else None

    def of_images(self, measure: str, num_images: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Joints found, and joints measured, in each of N images [N]."""
        counts = (self.hits[measure].sum(axis=1), self.is_measured[measure].sum(axis=1))
        hits, measured = (np.bincount(self.images, each, num_images).astype(np.int64) for each in counts)
        return hits, measured
