"""Masks as COCO's compressed run lengths, the form in which answers and result files hold them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

RLE = dict[str, Any]  # size [height, width] and counts, a string


def encode(mask: NDArray[np.bool_]) -> RLE:
    """Run lengths of a mask [H, W]."""
    coded = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(side) for side in coded["size"]], "counts": coded["counts"].decode()}


def decode(rle: RLE) -> NDArray[np.bool_]:
    """The mask [H, W] of run lengths."""
    return coco_mask.decode({"size": rle["size"], "counts": rle["counts"].encode()}).astype(bool)


def bbox_xywh(rle: RLE) -> list[float]:
    """The smallest box around a mask, in pixels; zeros where it is empty."""
    return [float(v) for v in coco_mask.toBbox({"size": rle["size"], "counts": rle["counts"].encode()})]


def class_map(answer: Mapping[str, Any], class_names: Sequence[str], nothing: int = 255) -> NDArray[np.uint8]:
    """The class of each pixel [H, W] that an answer of segments gives; `nothing` for none of these classes."""
    classes = np.full((answer["height"], answer["width"]), nothing, np.uint8)
    for segment in answer["segments"]:
        if segment["label"] in class_names:
            classes[decode(segment["segmentation"])] = class_names.index(segment["label"])
    return classes
