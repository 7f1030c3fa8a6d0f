"""A map of values laid over its image."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from stages.pictures.predictions import png

LONG_SIDE_PX = 224
LOW, HIGH = np.array((255, 220, 0)), np.array((215, 0, 30))
MOST_OPAQUE = 0.75


def overlay(image: NDArray[np.uint8], heat: NDArray[Any] | None, box_xyxy: Sequence[float] | None = None) -> bytes:
    """The image [H, W, 3] under its heat [H, W] in [0, 1], yellow to red and as opaque as it is high, as PNG bytes.

    The long side gets 224 px. The box, in pixels of the image, is framed.
    """
    pixels = image.astype(np.float32)
    if heat is not None:
        share = heat[..., None]
        pixels += ((LOW + (HIGH - LOW) * share) - pixels) * share * MOST_OPAQUE
    scale = LONG_SIDE_PX / max(image.shape[:2])
    drawn = Image.fromarray(pixels.round().astype(np.uint8))
    drawn = drawn.resize((round(drawn.width * scale), round(drawn.height * scale)), Image.Resampling.BICUBIC)
    if box_xyxy is not None:
        x1, y1, x2, y2 = (value * scale for value in box_xyxy)
        ImageDraw.Draw(drawn).rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=(255, 255, 255), width=2)
    return png(drawn)
