"""Boundaries of segments: what a few pixels of shift cost, which the area of large segments hides."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

DILATION_RATIO = 0.02  # of the image's diagonal; the paper's value


def boundary_width_px(height: int, width: int) -> int:
    """How far a boundary region reaches into a segment, at least 1 pixel."""
    return max(1, round(DILATION_RATIO * math.hypot(height, width)))


def boundaries(classes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels [H, W] within boundary_width_px of the contour of their own segment; the image's edge is a contour too.

    Source: Cheng et al. 2021, "Boundary IoU", section 4 and its published mask_to_boundary. Eroding each class by a
    square of 2 d + 1 pixels leaves the pixels whose whole window is of one class: all classes are done at once.
    """
    window = 2 * boundary_width_px(*classes.shape) + 1
    padded = np.pad(classes.astype(np.int16), 1, constant_values=-1)
    lowest = ndimage.minimum_filter(padded, window, mode="nearest")
    highest = ndimage.maximum_filter(padded, window, mode="nearest")
    return (lowest != highest)[1:-1, 1:-1]
