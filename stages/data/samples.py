"""Encoded images as tasks read them, from a dataset or from anywhere."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stages.data import transforms
from stages.data.dataset import Dataset
from stages.data.images import inspect
from stages.data.index import MASK_COLUMNS

Box = tuple[float, float, float, float]  # x1, y1, x2, y2, pixels of the upright image

IMAGE_COLUMNS = ("key", "shard", "offset", "size", "mode", "format", "orientation", "width", "height")


@dataclass(frozen=True)
class Encoded:
    """An image as it is stored, and what is known of it without decoding."""

    key: str
    data: bytes
    mode: str
    format: str
    orientation: int
    width: int  # of the upright image, pixels
    height: int
    asked_xyxy: Box | None = None  # what of it is asked about; None: all of it, or what the labels say

    def decode(self) -> Tensor:
        """uint8 [3, height, width], upright."""
        return transforms.decode(self.data, self.mode, self.format, self.orientation)


class Images(Protocol):
    """Encoded images with, for a labelled set, columns of labels and objects, and masks."""

    def __len__(self) -> int: ...

    def image(self, index: int) -> Encoded: ...

    def value(self, column: str, index: int) -> Any: ...

    def mask(self, index: int, classes: Sequence[str]) -> NDArray[np.uint8] | None:
        """Class numbers [H, W] of the upright image, VOID where nothing of `classes` is labelled; None without one."""
        ...


class StoredImages:
    """The images of one split of a dataset, in the order of their keys."""

    def __init__(self, dataset: Dataset, split: str, *columns: str) -> None:
        self.dataset = dataset
        self.table = dataset.table(split, list(dict.fromkeys([*IMAGE_COLUMNS, *columns]))).combine_chunks()

    def __len__(self) -> int:
        return self.table.num_rows

    def image(self, index: int) -> Encoded:
        """One image, by one read."""
        key, shard, offset, size, *facts = (self.value(name, index) for name in IMAGE_COLUMNS)
        return Encoded(key, self.dataset.read(shard, offset, size), *facts)

    def value(self, column: str, index: int) -> Any:
        """One field of one sample."""
        return self.table.column(column)[index].as_py()

    def mask(self, index: int, classes: Sequence[str]) -> NDArray[np.uint8] | None:
        """As the protocol says, by one read; needs the columns MASK_COLUMNS of the index."""
        shard, offset, size, labels, _ = (self.value(name, index) for name in ("shard", *MASK_COLUMNS))
        if offset is None:
            return None
        return transforms.decode_mask(self.dataset.read(shard, offset, size), labels, classes)


class LooseImages:
    """Encoded images from outside a dataset, and perhaps the box of each that is asked about, or None.

    ValueError names the first that can't be read, or whose box is none.
    """

    def __init__(self, files: Sequence[bytes], boxes_xyxy: Sequence[Sequence[float] | None] | None = None) -> None:
        asked = boxes_xyxy if boxes_xyxy is not None else [None] * len(files)
        self.images = [self._encoded(i, *row) for i, row in enumerate(zip(files, asked, strict=True))]

    @staticmethod
    def _encoded(index: int, data: bytes, box_xyxy: Sequence[float] | None) -> Encoded:
        try:
            facts = inspect(data)
            asked = None if box_xyxy is None else _box(box_xyxy, facts.width, facts.height)
        except ValueError as error:
            raise ValueError(f"image {index}: {error}") from None
        key = f"{index:016x}"
        return Encoded(key, data, facts.mode, facts.format, facts.orientation, facts.width, facts.height, asked)

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> Encoded:
        """One image."""
        return self.images[index]

    def value(self, column: str, index: int) -> Any:
        """Nothing is known of such an image."""
        return None

    def mask(self, index: int, classes: Sequence[str]) -> NDArray[np.uint8] | None:
        """There is none."""
        return None


def _box(told: Any, width: int, height: int) -> Box:
    try:
        x1, y1, x2, y2 = map(float, told if isinstance(told, list | tuple | np.ndarray) else ())
    except (TypeError, ValueError):
        x1 = y1 = x2 = y2 = math.nan
    if not (x1 <= x2 and y1 <= y2 and math.isfinite(x2 - x1 + y2 - y1)):
        raise ValueError(f"box_xyxy {told!r}: give [x1, y1, x2, y2] in pixels, x1 <= x2 and y1 <= y2")
    if x1 > width or y1 > height or x2 < 0 or y2 < 0:
        raise ValueError(f"box_xyxy {told!r}: lies outside the image, which has {width} x {height} pixels")
    return x1, y1, x2, y2
