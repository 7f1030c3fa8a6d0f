"""Class maps drawn: over their images with a legend, and as index PNGs."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from stages.pictures.predictions import GAP_PX, INK, PAPER, STRIP_PX, class_colour, contact_sheet, tag_font

NOTHING = 255  # in a class map: not labelled, or none of the classes
OPACITY = 0.6
SWATCH_PX = 14


def draw_segmentation(
    image: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    predicted: NDArray[np.uint8],
    class_names: Sequence[str],
    long_side_px: int = 640,
) -> Image.Image:
    """The image uint8 [H, W, 3] twice: left under its true classes [H, W], right under the predicted ones; a legend.

    What is not labelled is grey on the left, and drawn as predicted on the right.
    """
    halves = [overlaid(image, classes, long_side_px) for classes in (truth, predicted)]
    is_labelled = truth != NOTHING
    right = float((predicted == truth)[is_labelled].mean()) if is_labelled.any() else 1.0
    sheet = contact_sheet(halves, ["truth", f"predicted: {right:.0%} of the labelled pixels are right"], columns=2)
    return _with_legend(sheet, np.union1d(truth, predicted), class_names)


def draw_classes(
    image: NDArray[np.uint8], classes: NDArray[np.uint8], class_names: Sequence[str], long_side_px: int = 640
) -> Image.Image:
    """The image uint8 [H, W, 3] under its classes [H, W], with a legend."""
    return _with_legend(overlaid(image, classes, long_side_px), np.unique(classes), class_names)


def overlaid(image: NDArray[np.uint8], classes: NDArray[np.uint8], long_side_px: int) -> Image.Image:
    """The image under the colours of its classes, scaled so that its long side has long_side_px."""
    scale = long_side_px / max(image.shape[:2])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    picture = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC), np.float32)
    shown = np.asarray(Image.fromarray(classes).resize(size, Image.Resampling.NEAREST))
    grey = picture.mean(2, keepdims=True).repeat(3, 2)
    coloured = picture + (palette()[shown] - picture) * OPACITY
    drawn = np.where((shown == NOTHING)[..., None], grey, coloured)
    return Image.fromarray(drawn.round().clip(0, 255).astype(np.uint8))


def index_png(classes: NDArray[np.uint8]) -> bytes:
    """A class map [H, W] as an 8-bit palette PNG: the value is the class, the palette shows it in our colours."""
    image = Image.frombytes("P", (classes.shape[1], classes.shape[0]), np.ascontiguousarray(classes).tobytes())
    image.putpalette(palette().astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def palette() -> NDArray[np.float32]:
    """The colour of each value, [256, 3]; black for NOTHING."""
    return np.array([*(class_colour(k) for k in range(NOTHING)), (0, 0, 0)], np.float32)


def _with_legend(sheet: Image.Image, found: NDArray[np.uint8], class_names: Sequence[str]) -> Image.Image:
    """The picture above a swatch and a name for each class that it shows."""
    names = [(class_colour(int(k)), class_names[k]) for k in found if k != NOTHING]
    entries = _placed(names, sheet.width)
    height = max((y for _, y, _, _ in entries), default=-STRIP_PX) + STRIP_PX
    whole = Image.new("RGB", (sheet.width, sheet.height + height), PAPER)
    whole.paste(sheet, (0, 0))
    draw = ImageDraw.Draw(whole)
    for x, y, colour, name in entries:
        top = sheet.height + y + (STRIP_PX - SWATCH_PX) // 2
        draw.rectangle((x, top, x + SWATCH_PX - 1, top + SWATCH_PX - 1), fill=colour)
        draw.text((x + SWATCH_PX + 4, sheet.height + y + STRIP_PX // 2), name, INK, tag_font(), anchor="lm")
    return whole


def _placed(
    names: Sequence[tuple[tuple[int, int, int], str]], width: int
) -> list[tuple[int, int, tuple[int, int, int], str]]:
    """x, y, colour and name of each entry, in lines as wide as the picture."""
    entries, x, y = [], GAP_PX, 0
    for colour, name in names:
        needed = SWATCH_PX + 4 + round(tag_font().getlength(name)) + 2 * GAP_PX
        if x > GAP_PX and x + needed > width:
            x, y = GAP_PX, y + STRIP_PX
        entries.append((x, y, colour, name))
        x += needed
    return entries
