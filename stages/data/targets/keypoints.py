"""Images with joints: all persons of an image as Keypoint R-CNN reads them, or one of them as heatmaps do.

An item is an image either way, so that evaluation, gate, predict and serve speak of the same things. Heatmaps see the
largest person of each image; in training, each epoch another.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stages.data import run_lengths, transforms
from stages.data.samples import Box, Encoded, Images
from stages.data.targets.canvas import CanvasSamples
from stages.data.targets.crops import Crop, fitted, varied
from stages.metrics.keypoints import BOX_AREA_SHARE, Target
from stages.params.augmentation import KeypointAugmentation
from stages.params.keypoints import HeatmapParams
from stages.params.skeleton import Skeleton


class KeypointSamples(CanvasSamples):
    """Items: key str, target Target, placement Placement; on the canvas boxes_xyxy float [M, 4], labels int64 [M],
    keypoints float [M, K, 3] (x, y, visibility).

    Objects of classes without joints are no targets. Crowds are (they are ignored when measuring), but not among what
    training sees. A joint that is not labelled, or that a crop cut off, has visibility 0.
    """

    MIN_SIDE_PX = 1.0  # a box that a crop left less of is no longer an object

    def __init__(
        self,
        images: Images,
        classes: Sequence[str],
        skeleton: Skeleton,
        canvas_px: tuple[int, int],
        augmentation: KeypointAugmentation,
        augment_seed: int | None = None,
    ) -> None:
        super().__init__(images, canvas_px, augmentation, augment_seed)
        self.number, self.skeleton = {name: i for i, name in enumerate(classes)}, skeleton

    def load(self, index: int, epoch: int, image: Tensor) -> dict[str, Any]:
        """Fill `image`, randomly varied if an augment_seed was given."""
        encoded, placement = self.placed(index, epoch, image)
        target = target_of(encoded, self.images.value("objects", index) or [], self.number, self.skeleton)
        boxes = placement.to_canvas(target.boxes_xyxy)
        is_kept = ((boxes[:, 2:] - boxes[:, :2]) >= self.MIN_SIDE_PX).all(1) & ~target.is_crowd
        is_mirrored = placement.is_flipped_x != placement.is_flipped_y  # both together are half a turn
        points = placement.points_to_canvas(target.keypoints[..., :2])
        joints = _on_canvas(points, target.keypoints, placement.content_px, self.skeleton if is_mirrored else None)
        return {
            "key": encoded.key,
            "target": target,
            "placement": placement,
            "boxes_xyxy": boxes[is_kept],
            "labels": target.labels[is_kept],
            "keypoints": joints[is_kept],
        }


class PersonSamples:
    """Items: key str, target Target of one person or none, box_xyxy Box of that person or None, crop Crop, keypoints
    float [K, 3] on the canvas.

    The whole image is cropped, or, if params.crop says so, the person's box, where nobody is labelled the one that is
    asked about.
    """

    def __init__(
        self,
        images: Images,
        label: str,
        skeleton: Skeleton,
        canvas_px: tuple[int, int],
        augmentation: KeypointAugmentation,
        params: HeatmapParams,
        augment_seed: int | None = None,
    ) -> None:
        self.images, self.augmentation, self.augment_seed = images, augmentation, augment_seed
        self.label, self.skeleton, self.params = label, skeleton, params
        self.image_shape = (3, *canvas_px)

    def __len__(self) -> int:
        return len(self.images)

    def load(self, index: int, epoch: int, image: Tensor) -> dict[str, Any]:
        """Fill `image`, randomly varied if an augment_seed was given."""
        encoded = self.images.image(index)
        pixels, canvas = encoded.decode(), (self.image_shape[1], self.image_shape[2])
        target = target_of(encoded, self.images.value("objects", index) or [], {self.label: 0}, self.skeleton)
        if self.augment_seed is None:
            target = _part(target, _largest(target))
            frame, margin = self._frame(encoded, target)
            crop = fitted(frame, canvas, margin)
        else:
            random = transforms.generator(self.augment_seed, epoch, encoded.key)
            target = _part(target, _any(target, random))
            frame, margin = self._frame(encoded, target)
            crop = varied(frame, canvas, margin, self.augmentation, random)
            pixels = transforms.recolour(pixels, self.augmentation, random)
            pixels = transforms.erased(pixels, self.augmentation.random_erasing, random)
        crop.draw(pixels, image)
        joints = self._joints(target, crop)
        return {"key": encoded.key, "target": target, "box_xyxy": _box(target), "crop": crop, "keypoints": joints}

    def _frame(self, encoded: Encoded, target: Target) -> tuple[Box, float]:
        """What is cropped, and the margin around it."""
        box = _box(target) or encoded.asked_xyxy
        if self.params.crop == "box" and box:
            return box, self.params.box_margin
        return (0.0, 0.0, float(target.width), float(target.height)), 1.0

    def _joints(self, target: Target, crop: Crop) -> NDArray[np.float64]:
        """x, y, visibility [K, 3] on the canvas; all 0 where there is nobody."""
        if not len(target.labels):
            return np.zeros((len(self.skeleton), 3))
        points = crop.to_canvas(target.keypoints[:, :, :2].astype(np.float64))
        size = (self.image_shape[1], self.image_shape[2])
        return _on_canvas(points, target.keypoints, size, self.skeleton if crop.is_mirrored else None)[0]


def target_of(image: Encoded, objects: list[dict[str, Any]], number: dict[str, int], skeleton: Skeleton) -> Target:
    """The objects of some classes that have a joint labelled, or could have: persons too small for it are ignored."""
    K = len(skeleton)
    shown = [o for o in objects if o["label"] in number and (len(o.get("keypoints") or ()) == 3 * K or o["is_crowd"])]
    joints = [o["keypoints"] if len(o.get("keypoints") or ()) == 3 * K else [0.0] * 3 * K for o in shown]
    return Target(
        image.key,
        image.width,
        image.height,
        np.array([o["bbox_xyxy"] for o in shown], dtype=np.float32).reshape(-1, 4),
        np.array([number[o["label"]] for o in shown], dtype=np.int64),
        np.array([o["is_crowd"] for o in shown], dtype=bool),
        np.array([area_of(o, image.width, image.height) for o in shown], dtype=np.float32),
        keypoints=np.array(joints, dtype=np.float32).reshape(-1, K, 3),
    )


def area_of(thing: dict[str, Any], width: int, height: int) -> float:
    """What OKS goes by, square pixels: of the object's polygons or mask, else a share of its box."""
    if thing.get("polygons"):
        return sum(_polygon_area(np.array(polygon).reshape(-1, 2)) for polygon in thing["polygons"])
    if thing.get("rle"):
        return float(run_lengths.area({"size": [height, width], "counts": thing["rle"]}))
    x1, y1, x2, y2 = thing["bbox_xyxy"]
    return float((x2 - x1) * (y2 - y1) * BOX_AREA_SHARE)


def _polygon_area(points: NDArray[np.float64]) -> float:
    """By the shoelace formula, as COCO's own `area`."""
    x, y = points.T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def _on_canvas(
    points: NDArray[Any], joints: NDArray[Any], content_px: tuple[int, int], mirrored: Skeleton | None
) -> NDArray[np.float64]:
    """Joints [..., K, 3] at points [..., K, 2]: those outside the content are not seen; in a mirror sides change."""
    height, width = content_px
    is_inside = ((points >= 0) & (points < np.array([width, height]))).all(-1)
    placed = np.concatenate([points, (joints[..., 2] * is_inside)[..., None]], -1).astype(np.float64)
    return placed[..., list(mirrored.mirrored), :] if mirrored else placed


def _shown(target: Target) -> NDArray[np.int64]:
    """Persons that have a joint labelled."""
    return np.flatnonzero((target.keypoints[..., 2] > 0).any(1) & ~target.is_crowd)


def _largest(target: Target) -> list[int]:
    """The person with the largest box, the first of equal ones; none where nobody is shown."""
    sides = target.boxes_xyxy[:, 2:] - target.boxes_xyxy[:, :2]
    return sorted(_shown(target).tolist(), key=lambda i: -float(sides[i].prod()))[:1]


def _any(target: Target, random: np.random.Generator) -> list[int]:
    """A person at random; none where nobody is shown."""
    shown = _shown(target)
    return [int(shown[random.integers(len(shown))])] if len(shown) else []


def _box(target: Target) -> Box | None:
    """Of the first person."""
    for x1, y1, x2, y2 in target.boxes_xyxy.tolist():
        return x1, y1, x2, y2
    return None


def _part(target: Target, persons: list[int]) -> Target:
    return replace(
        target,
        boxes_xyxy=target.boxes_xyxy[persons],
        labels=target.labels[persons],
        is_crowd=target.is_crowd[persons],
        keypoints=target.keypoints[persons],
        areas=target.areas[persons] if target.areas is not None else None,
    )
