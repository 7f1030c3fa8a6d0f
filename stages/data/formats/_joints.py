"""What the readers of pose formats share: a box around joints, joints outside their image, sizes of images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MARGIN = 0.1  # on each side, of the longer side of the joints' box: joints lie within a body
BOX_NOTE = f"boxes are those of the labelled joints, with {MARGIN:.0%} of their longer side around them"

_Size = tuple[int, int] | None


def box_of(joints: NDArray[Any], size_px: _Size) -> tuple[float, float, float, float] | None:
    """The box xyxy around labelled joints [K, 3] (x, y, visibility), within the image; None without any in it."""
    points = joints[joints[:, 2] > 0, :2].astype(np.float64)
    if not len(points):
        return None
    low, high = points.min(0), points.max(0)
    margin = max(1.0, MARGIN * float((high - low).max()))
    low, high = low - margin, high + margin
    if size_px is not None:
        low, high = low.clip(0, size_px), high.clip(0, size_px)
    if (high <= low).any():
        return None
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def outside(joints: NDArray[Any], size_px: _Size, names: Sequence[str]) -> list[str]:
    """A defect for each labelled joint that does not lie in the image."""
    if size_px is None:
        return []
    is_out = ((joints[:, :2] < 0) | (joints[:, :2] > np.array(size_px))).any(1) & (joints[:, 2] > 0)
    return [
        f"{names[k]} at ({joints[k, 0]:.1f}, {joints[k, 1]:.1f}) lies outside the image: kept"
        for k in np.flatnonzero(is_out).tolist()
    ]


def flat(joints: NDArray[Any]) -> tuple[float, ...]:
    """x, y, visibility, ... of joints [K, 3]; 0, 0, 0 for one without label, whatever stood there."""
    return tuple(float(v) for v in np.where(joints[:, 2:] > 0, joints, 0.0).ravel())


def size_of(file: Path) -> _Size:
    """Width and height of an image from its header; None where it can't be read, which ingest finds out, too."""
    try:
        with Image.open(file) as image:
            return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
