"""Images with labelled, outlined objects as instance segmentation reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stages.data import run_lengths
from stages.data.samples import Encoded, Images
from stages.data.targets.detection import DetectionSamples
from stages.data.transforms import Placement
from stages.metrics.instance_segmentation import Target
from stages.params.augmentation import DetectionAugmentation

_MOVED_PX = 1.0  # an edge that the canvas moved by more was cut off


@dataclass(frozen=True, eq=False)
class PlacedMask:
    """What a canvas shows of an object's mask: the pixels of the box around it."""

    left: int
    top: int
    pixels: NDArray[np.uint8]  # [h, w], 1 where the object is

    @property
    def box_xyxy(self) -> tuple[int, int, int, int]:
        """The box around it."""
        height, width = self.pixels.shape
        return self.left, self.top, self.left + width, self.top + height


class InstanceSegmentationSamples(DetectionSamples):
    """Items as DetectionSamples, with `masks` beside `boxes_xyxy`: for each a PlacedMask, or None where it has none.

    An object without a mask trains its box alone. Its box stands for its mask in the target, as that of a crowd: what
    is found there is neither right nor wrong. An object of which a crop leaves no pixel trains nothing, and one that it
    cuts has the box around what is left. ValueError when objects are there and none of them has a mask.
    """

    def __init__(
        self,
        images: Images,
        classes: Sequence[str],
        canvas_px: tuple[int, int],
        augmentation: DetectionAugmentation,
        augment_seed: int | None = None,
    ) -> None:
        super().__init__(images, classes, canvas_px, augmentation, augment_seed)
        _check_masks(images)

    def load(self, index: int, epoch: int, image: Tensor) -> dict[str, Any]:
        """Fill `image`, randomly varied if an augment_seed was given."""
        encoded, placement = self.placed(index, epoch, image)
        objects = self.images.value("objects", index) or []
        outlines = [_outline(thing, encoded) for thing in objects]
        target = _target(self._objects(encoded, objects), outlines)
        boxes, seen, is_kept = placement.to_canvas(target.boxes_xyxy), [], []
        is_cut = _is_cut(target.boxes_xyxy, placement)
        for i, outline in enumerate(outlines):
            mask = outline and place(outline, placement)
            if mask and is_cut[i]:
                boxes[i] = mask.box_xyxy
            seen.append(mask)
            is_kept.append(not objects[i]["is_crowd"] and (mask is not None or outline is None))
        kept = np.flatnonzero(self._is_large(boxes) & np.array(is_kept, bool))
        return {
            "key": encoded.key,
            "target": target,
            "placement": placement,
            "boxes_xyxy": boxes[kept],
            "labels": target.labels[kept],
            "masks": [seen[i] for i in kept],
        }


def place(rle: run_lengths.Rle, placement: Placement) -> PlacedMask | None:
    """A mask of the original image on the canvas, as transforms.place draws the image; None where nothing is seen."""
    height, width = placement.content_px
    seen_rows, seen_columns = placement.window(*rle["size"])
    x1, y1, x2, y2 = run_lengths.box_xyxy(rle)
    rows, source_rows = _shown((y1, y2), seen_rows, height)
    columns, source_columns = _shown((x1, x2), seen_columns, width)
    pixels = run_lengths.looked_up(rle, source_rows, source_columns)
    down, across = (np.flatnonzero(pixels.any(axis)) for axis in (1, 0))
    if not len(down):
        return None
    pixels = pixels[down[0] : down[-1] + 1, across[0] : across[-1] + 1]
    x, y = int(columns[across[0]]), int(rows[down[0]])
    if placement.is_flipped_x:
        pixels, x = pixels[:, ::-1], width - x - pixels.shape[1]
    if placement.is_flipped_y:
        pixels, y = pixels[::-1], height - y - pixels.shape[0]
    return PlacedMask(x, y, np.ascontiguousarray(pixels, dtype=np.uint8))


def _shown(span: tuple[int, int], part: slice, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Canvas pixels that may show a span of an axis (its `part` is scaled to `size`), and where each centre lies."""
    start, length = part.start, part.stop - part.start
    first, stop = (span[0] - start) * size // length, -(-(span[1] - start) * size // length)
    places = np.arange(*np.clip([first, stop], 0, size))
    return places, start + (2 * places + 1) * length // (2 * size)


def _outline(thing: Mapping[str, Any], image: Encoded) -> run_lengths.Rle | None:
    try:
        return run_lengths.of_object(thing, image.height, image.width)
    except ValueError as error:
        raise ValueError(f"image {image.key}: {error}") from None


def _target(found: Any, outlines: Sequence[run_lengths.Rle | None]) -> Target:
    """A detection target with masks: boxes for those that have none."""
    has_mask = np.array([outline is not None for outline in outlines], bool)
    whole = tuple(
        outline or run_lengths.of_box(box, found.height, found.width)
        for outline, box in zip(outlines, found.boxes_xyxy.tolist(), strict=True)
    )
    areas = np.array([run_lengths.area(rle) for rle in whole], np.float32)
    return Target(**{**vars(found), "is_crowd": found.is_crowd | ~has_mask, "areas": areas, "masks": whole})


def _is_cut(boxes_xyxy: NDArray[np.float32], placement: Placement) -> NDArray[np.bool_]:
    height, width = placement.content_px
    moved = boxes_xyxy * placement.scale + np.array([placement.left, placement.top] * 2)
    return (np.abs(moved - moved.clip(0, [width, height] * 2)) > _MOVED_PX).any(1)


def _check_masks(images: Images) -> None:
    """Look for the first mask; an image of unknown objects, as those that are only asked about, is no fault."""
    num_objects = 0
    for index in range(len(images)):
        for thing in images.value("objects", index) or []:
            if thing["polygons"] or thing["rle"]:
                return
            num_objects += 1
    if num_objects:
        raise ValueError(
            f"none of the {num_objects} objects has a mask: kind instance_segmentation learns from polygons or run "
            "lengths; ingest them (formats coco, pennfudan), or use kind detection"
        )
