"""Masks of objects as COCO's run lengths: from polygons and pixels, turned, looked up, and pasted from a model's cells.

Run lengths go down the columns, background first (cocodataset.org/#format-data). Only what turns a mask unrolls a
whole image: the rest costs by the outline, so that a hundred masks of a large photo fit into memory.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

Rle = dict[str, Any]  # size [height, width] in pixels; counts str, compressed: as in COCO's JSON
_MAX_GROUPS = 10  # of 5 bits of one run length, and
_MAX_RUN = 2**31  # its largest value: what hostile counts sum up to stays far from where int64 wraps
_FAR = 4  # times the image's side: points of a polygon further out are moved there, or its outline fills the memory


def runs_of(counts: str) -> NDArray[np.int64]:
    """Run lengths out of COCO's text form (rleFrString of cocoapi's maskApi.c); empty when it is none.

    Little-endian groups of 5 bits + 48, bit 5: more follow, bit 4 of the last: negative; from the fourth run on, the
    difference to the run before the last.
    """
    none = np.empty(0, np.int64)
    groups = np.array([*map(ord, counts)], np.int64) - 48
    if not len(groups) or groups.min() < 0 or groups.max() > 63 or groups[-1] & 0x20:
        return none
    last = np.flatnonzero(groups & 0x20 == 0)
    lengths = np.diff(last, prepend=-1)
    if lengths.max() > _MAX_GROUPS:
        return none
    starts = last - lengths + 1
    place = np.arange(len(groups)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((groups & 0x1F) << (5 * place), starts)
    runs -= np.where(groups[last] & 0x10, np.int64(1) << (5 * lengths), 0)
    if np.abs(runs).max() > _MAX_RUN:
        return none
    runs[1::2], runs[2::2] = np.cumsum(runs[1::2]), np.cumsum(runs[2::2])
    return runs if runs.min() >= 0 else none


def of_runs(runs: Sequence[int] | NDArray[np.int64], height: int, width: int) -> Rle:
    """Compressed; ValueError unless the run lengths fill the image: pycocotools would write beyond its memory."""
    values = [int(run) for run in runs]
    if min(values, default=-1) < 0 or sum(values) != height * width:
        raise ValueError(f"run lengths that do not fill {width}x{height} pixels")
    size = [height, width]
    return {"size": size, "counts": coco.frPyObjects({"counts": values, "size": size}, *size)["counts"].decode("ascii")}


def fills(counts: str, height: int, width: int) -> bool:
    """Whether compressed counts cover exactly an image."""
    return int(runs_of(counts).sum()) == height * width


def encoded(pixels: NDArray[Any]) -> Rle:
    """A mask [height, width], true or not zero where the object is."""
    counts: bytes = coco.encode(np.asfortranarray(pixels != 0, np.uint8))["counts"]
    return {"size": list(pixels.shape), "counts": counts.decode("ascii")}


def decoded(rle: Mapping[str, Any]) -> NDArray[np.bool_]:
    """The whole mask [height, width]."""
    height, width = rle["size"]
    runs = _runs(rle)
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def looked_up(rle: Mapping[str, Any], rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The mask at some rows and columns of the image, bool [len(rows), len(columns)]."""
    ends = np.cumsum(_runs(rle))
    places = columns[None, :] * rle["size"][0] + rows[:, None]
    return np.searchsorted(ends, places, side="right") % 2 == 1


def shrunk(rle: Mapping[str, Any], long_side_px: int) -> NDArray[np.bool_]:
    """The mask with its long side at most long_side_px, for a picture."""
    height, width = rle["size"]
    step = max(1.0, max(height, width) / long_side_px)
    rows, columns = (((np.arange(max(1, int(side / step))) + 0.5) * step).astype(np.int64) for side in (height, width))
    return looked_up(rle, rows.clip(max=height - 1), columns.clip(max=width - 1))


def area(rle: Mapping[str, Any]) -> int:
    """Pixels of the object."""
    return int(_runs(rle)[1::2].sum())


def box_xyxy(rle: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """The box around the object, its right and lower edge outside; all 0 without a pixel."""
    height = rle["size"][0]
    edges = np.cumsum(_runs(rle))
    ends = edges[1::2]
    starts = edges[::2][: len(ends)]
    is_there = ends > starts
    starts, last = starts[is_there], ends[is_there] - 1
    if not len(starts):
        return 0, 0, 0, 0
    goes_on = (starts // height != last // height).any()  # over the end of a column: from top to bottom
    top, bottom = (0, height) if goes_on else (int((starts % height).min()), int((last % height).max()) + 1)
    return int(starts[0] // height), top, int(last[-1] // height) + 1, bottom


def of_object(thing: Mapping[str, Any], height: int, width: int) -> Rle | None:
    """The mask of an entry of the index's `objects`; None where it has none, or one without a pixel in the image.

    ValueError for run lengths of another image's size.
    """
    if thing.get("polygons"):
        rle = of_polygons(thing["polygons"], height, width)
    elif thing.get("rle"):
        if not fills(thing["rle"], height, width):
            raise ValueError(f"run lengths of {thing['label']} that do not fill {width}x{height} pixels")
        rle = {"size": [height, width], "counts": thing["rle"]}
    else:
        return None
    return rle if area(rle) else None


def of_polygons(polygons: Sequence[Sequence[float]], height: int, width: int) -> Rle:
    """What lies in any of the polygons (x, y, x, y, ... pixels, at least three points), as pycocotools fills them."""
    far = np.array([width, height], np.float64) * _FAR
    near = [np.clip(np.reshape(polygon, (-1, 2)), -far, far).ravel().tolist() for polygon in polygons]
    merged = coco.merge(coco.frPyObjects(near, height, width))
    return {"size": [height, width], "counts": merged["counts"].decode("ascii")}


def of_box(xyxy: Sequence[float], height: int, width: int) -> Rle:
    """The pixels whose centres lie in a box."""
    x1, y1, x2, y2 = xyxy
    left, right = (int(v) for v in np.ceil(np.array([x1, x2]) - 0.5).clip(0, width))
    top, bottom = (int(v) for v in np.ceil(np.array([y1, y2]) - 0.5).clip(0, height))
    return _of_part(np.ones((max(0, bottom - top), max(0, right - left)), bool), top, left, height, width)


def pasted(cells: NDArray[np.float32], xyxy: Sequence[float], height: int, width: int, threshold: float = 0.5) -> Rle:
    """Probabilities [S, S] over a box, in pixels of an image, as a mask of the image.

    Each pixel whose centre lies in the box gets the bilinear mix of the cells' centres, 0 beyond the outermost ones, as
    in Detectron2's paste_masks_in_image; only these pixels are ever made.
    """
    x1, y1, x2, y2 = (float(v) for v in xyxy)
    columns, across = _taps(x1, x2, width, cells.shape[1])
    rows, down = _taps(y1, y2, height, cells.shape[0])
    is_inside = down @ cells.astype(np.float64) @ across.T >= threshold
    return _of_part(is_inside, rows, columns, height, width)


def class_map(answer: Mapping[str, Any], class_names: Sequence[str], nothing: int = 255) -> NDArray[np.uint8]:
    """The class of each pixel [H, W] that an answer of segments gives; `nothing` for none of these classes."""
    classes = np.full((answer["height"], answer["width"]), nothing, np.uint8)
    for segment in answer["segments"]:
        if segment["label"] in class_names:
            classes[decoded(segment["segmentation"])] = class_names.index(segment["label"])
    return classes


def turned(counts: str, orientation: int, height: int, width: int) -> str:
    """Counts over a stored image, in pixels, as counts over the upright one, for EXIF orientations 5 to 8."""
    stored = decoded({"size": [height, width], "counts": counts}).T
    upright = {5: stored, 6: stored[:, ::-1], 7: stored[::-1, ::-1], 8: stored[::-1]}[orientation]
    return str(encoded(upright)["counts"])


def _runs(rle: Mapping[str, Any]) -> NDArray[np.int64]:
    height, width = rle["size"]
    runs = runs_of(rle["counts"])
    if runs.sum() != height * width:
        raise ValueError(f"run lengths that do not fill {width}x{height} pixels")
    return runs


def _taps(start: float, end: float, length: int, num_cells: int) -> tuple[int, NDArray[np.float64]]:
    """First pixel whose centre lies between start and end, and the weights [pixels, num_cells] of all that do."""
    first, stop = (int(v) for v in np.ceil(np.array([start, end]) - 0.5).clip(0, length))
    at = (np.arange(first, stop) + 0.5 - start) / max(end - start, 1e-6) * num_cells - 0.5
    return first, np.maximum(0.0, 1 - np.abs(at[:, None] - np.arange(num_cells)))


def _of_part(pixels: NDArray[Any], top: int, left: int, height: int, width: int) -> Rle:
    """The mask of an image that is `pixels` [h, w] at a place, and background around them."""
    padded = np.zeros((pixels.shape[1], pixels.shape[0] + 2), np.int8)
    padded[:, 1:-1] = pixels.T != 0
    column, row = np.nonzero(np.diff(padded, axis=1))
    edges = (left + column) * height + top + row  # of the object, going down the columns: in, out, in, out, ...
    is_seam = edges[1:] == edges[:-1]  # out at the bottom of a column and in again at the top of the next
    edges = edges[~(np.append(is_seam, False) | np.append(False, is_seam))] if len(edges) else edges
    end = height * width
    bounds = [0, *edges.tolist(), *([end] if not len(edges) or edges[-1] != end else [])]
    return of_runs(np.diff(bounds), height, width)
