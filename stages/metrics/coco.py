"""The door to pycocotools: COCO's evaluation of boxes, masks and keypoints, in memory.

Source: Lin et al. 2014, "Microsoft COCO: Common Objects in Context", and https://cocodataset.org/#detection-eval.
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

IouType = Literal["bbox", "segm", "keypoints"]  # COCOeval's names for what is compared
STATS = (
    "ap",
    "ap50",
    "ap75",
    "ap_small",
    "ap_medium",
    "ap_large",
    "ar1",
    "ar10",
    "ar100",
    "ar_small",
    "ar_medium",
    "ar_large",
)
KEYPOINT_STATS = (
    *("ap", "ap50", "ap75", "ap_medium", "ap_large"),
    *("ar", "ar50", "ar75", "ar_medium", "ar_large"),
)
IOU_50 = 0  # place of the threshold 0.5 among COCO's ten
ALL_AREAS = 0  # place of the area range "all"
MAX_DETECTIONS = -1  # place of the largest of COCO's limits: 100 of 1, 10, 100; the one of 20 for keypoints


@dataclass(frozen=True, eq=False)
class Matches:
    """The detections of one class over all N images, best score first, matched to the truth at COCO's T thresholds."""

    scores: NDArray[np.float64]  # [D]
    images: NDArray[np.int64]  # [D], place of the image
    is_true: NDArray[np.bool_]  # [T, D], matched to a truth that counts
    is_valid: NDArray[np.bool_]  # [T, D], False: ignored, matched to a crowd
    ious_50: NDArray[np.float64]  # [D], IoU with the match at threshold 0.5; NaN without one
    num_truth: NDArray[np.int64]  # [N], objects that count


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What COCOeval finds for N images and K classes."""

    stats: dict[str, float | None]  # the 12 numbers, or the 10 of keypoints; None: no truth to find
    precision: NDArray[np.float64]  # [T, 101, K] at recalls 0, 0.01, ..., 1; -1 for a class without truth
    matches: list[Matches]  # of each class


def evaluate(
    ground_truth: dict[str, Any],
    results: Sequence[dict[str, Any]],
    iou_type: IouType = "bbox",
    sigmas: Sequence[float] = (),
) -> Evaluation:
    """Run pycocotools on a COCO dataset and a COCO result list, whose entries have what iou_type compares.

    sigmas: of the joints, for keypoints, whose overlap is OKS (cocodataset.org/#keypoints-eval).

    Image ids must be 1 to N and annotation ids start at 1: COCOeval takes a match with id 0 for no match.
    """
    detections = [
        {**result, "id": i, "area": _area(result, iou_type), "iscrowd": 0} for i, result in enumerate(results, start=1)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = COCOeval(_indexed(ground_truth), _indexed({**ground_truth, "annotations": detections}), iou_type)
        if iou_type == "keypoints":
            evaluator.params.kpt_oks_sigmas = np.array(sigmas, np.float64)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    names = KEYPOINT_STATS if iou_type == "keypoints" else STATS
    num_areas, N = len(evaluator.params.areaRng), len(evaluator.params.imgIds)
    starts = [(k * num_areas + ALL_AREAS) * N for k in range(len(evaluator.params.catIds))]
    return Evaluation(
        stats={name: defined(value) for name, value in zip(names, evaluator.stats, strict=True)},
        precision=evaluator.eval["precision"][..., ALL_AREAS, MAX_DETECTIONS],
        matches=[_matches(evaluator, evaluator.evalImgs[start : start + N]) for start in starts],
    )


def defined(value: float) -> float | None:
    """A number of COCOeval, whose -1 means that there was no truth."""
    return float(value) if value > -1 else None


def _area(result: dict[str, Any], iou_type: IouType) -> float:
    """Of what is compared; it decides which unmatched detections count among small, medium and large objects."""
    if iou_type == "keypoints":  # of the joints' own box, as COCO.loadRes takes it
        x, y = result["keypoints"][0::3], result["keypoints"][1::3]
        return float((max(x) - min(x)) * (max(y) - min(y)))
    return float(mask.area(result["segmentation"])) if iou_type == "segm" else result["bbox"][2] * result["bbox"][3]


def _indexed(dataset: dict[str, Any]) -> COCO:
    coco = COCO()
    coco.dataset = dataset
    coco.createIndex()
    return coco


def _matches(evaluator: COCOeval, of_images: list[dict[str, Any] | None]) -> Matches:
    found = [(i, entry) for i, entry in enumerate(of_images) if entry is not None]
    T = len(evaluator.params.iouThrs)
    scores = np.concatenate([np.empty(0), *(entry["dtScores"] for _, entry in found)])
    ignored = np.concatenate([np.empty((T, 0), bool), *(entry["dtIgnore"] for _, entry in found)], axis=1)
    matched = np.concatenate([np.empty((T, 0)), *(entry["dtMatches"] for _, entry in found)], axis=1) > 0
    num_truth = np.zeros(len(of_images), np.int64)
    for i, entry in found:
        num_truth[i] = np.count_nonzero(entry["gtIgnore"] == 0)
    # Merge sort, as COCOeval.accumulate: equal scores stay in the order of the images.
    order = np.argsort(-scores, kind="mergesort")
    images = np.repeat([i for i, _ in found], [len(entry["dtScores"]) for _, entry in found]).astype(np.int64)
    return Matches(
        scores=scores[order],
        images=images[order],
        is_true=(matched & ~ignored)[:, order],
        is_valid=~ignored[:, order],
        ious_50=np.concatenate([np.empty(0), *(_ious_50(evaluator, entry) for _, entry in found)])[order],
        num_truth=num_truth,
    )


def _ious_50(evaluator: COCOeval, entry: dict[str, Any]) -> NDArray[np.float64]:
    """IoU [D] of each detection of one image and class with its match at threshold 0.5; NaN without one."""
    matched = entry["dtMatches"][IOU_50]
    ious = np.full(len(matched), np.nan)
    rows = np.flatnonzero(matched)
    # The rows of .ious are sorted by score as here, its columns are in the order of the annotation ids.
    columns = np.searchsorted(np.sort(entry["gtIds"]), matched[rows])
    if len(rows):
        ious[rows] = evaluator.ious[entry["image_id"], entry["category_id"]][rows, columns]
    return ious
