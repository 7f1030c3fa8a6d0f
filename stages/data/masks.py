"""Masks as they come: decoded to values, made upright with their image, and stored as small PNGs of labels by name."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.data.images import UPRIGHT, ImageFacts, loaded, opened
from stages.data.records import VOID, Mask

MAX_LABELS = VOID  # numbers that are left for labels
LOSSY = ("JPEG", "WEBP", "JPEG2000")  # their values are not those that somebody drew
SHOWN_VALUES = 5
GREY_STEPS = {1: 255, 2: 85, 4: 17}  # bits of a PNG's grey value -> what Pillow makes of a 1


@dataclass(frozen=True)
class StoredMask:
    """A mask as a dataset keeps it."""

    png: bytes  # 8-bit grey [H, W] of the upright image: place in labels, VOID where nothing is labelled
    labels: tuple[str, ...]  # those that it shows, sorted
    pixels: tuple[int, ...]  # of each label
    defects: tuple[str, ...]


def store(data: bytes, mask: Mask, facts: ImageFacts, max_pixels: int = 178_956_970) -> StoredMask:
    """A mask for an image of these facts, the same bytes for the same labels; ValueError when it can't be used.

    It is meant for the upright image, unless it has the size of the stored one and not of the upright one: then it is
    turned with the image, as boxes are (index.row).
    """
    found, turned = _upright(values(data, max_pixels), facts)
    numbers = np.unique(found)
    which = np.searchsorted(numbers, found)
    names = [mask.names.get(int(number)) for number in numbers]
    labels = tuple(sorted({name for name in names if name is not None}))
    if len(labels) > MAX_LABELS:
        raise ValueError(f"{len(labels)} labels in one image; at most {MAX_LABELS} can be kept")
    places = np.array([labels.index(name) if name is not None else VOID for name in names], np.uint8)
    stored = places[which]
    pixels = np.bincount(stored.ravel(), minlength=256)[: len(labels)]
    counts = zip(numbers.tolist(), names, np.bincount(which.ravel()).tolist(), strict=True)
    unknown = {number: count for number, name, count in counts if name is None and number not in mask.void}
    return StoredMask(encoded(stored), labels, tuple(pixels.tolist()), (*turned, *_unnamed(unknown)))


def values(data: bytes, max_pixels: int = 178_956_970) -> NDArray[np.int64]:
    """The value of each pixel [H, W], as records.Mask defines it; ValueError with a short reason."""
    image = opened(data, max_pixels)
    if image.format in LOSSY:
        raise ValueError(f"{image.format} does not keep the values of pixels: give a PNG")
    num_frames, orientation = loaded(image)
    if num_frames > 1:
        raise ValueError(f"{num_frames} frames: give one mask an image")
    if orientation != 1 and image.format != "TIFF":  # which Pillow has turned already
        image = image.transpose(UPRIGHT[orientation])
    pixels = np.asarray(image)
    if image.mode in ("RGB", "RGBA"):
        return pixels[..., :3].astype(np.int64) @ np.array([1, 256, 65536])
    if image.mode in ("LA", "PA"):
        return pixels[..., 0].astype(np.int64)
    if image.mode not in ("1", "L", "P", "I") and not image.mode.startswith("I;16"):
        raise ValueError(f"mode {image.mode}: a mask has whole numbers or RGB colours")
    return pixels.astype(np.int64) // _grey_step(image, data)


def placed(data: bytes, names: Mapping[int, str], labels: Sequence[str]) -> NDArray[np.int64]:
    """The place in `labels` of each pixel's name [H, W]; -1 where its value has none, or one that is not there."""
    places = {label: place for place, label in enumerate(labels)}
    numbers = np.array(sorted(names), np.int64)
    table = np.array([*(places.get(names[number], -1) for number in numbers.tolist()), -1])
    found = values(data)
    which = np.searchsorted(numbers, found)
    is_named = np.append(numbers, -1)[which] == found
    return np.where(is_named, table[which], -1)


def encoded(stored: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    """Numbers [H, W] as a grey PNG of as many bits."""
    buffer = io.BytesIO()
    Image.fromarray(stored).save(buffer, "PNG")
    return buffer.getvalue()


def _grey_step(image: Image.Image, data: bytes) -> int:
    """What Pillow has multiplied the values by: it spreads 2 and 4 bits of grey over 0 to 255."""
    bits = data[24] if image.format == "PNG" else 8  # of IHDR, which always comes first
    return GREY_STEPS.get(bits, 1) if image.mode == "L" else 1


def _upright(found: NDArray[np.int64], facts: ImageFacts) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    height, width = found.shape
    if (width, height) == (facts.width, facts.height):
        return found, ()
    if facts.orientation >= 5 and (height, width) == (facts.width, facts.height):
        turned = np.asarray(Image.fromarray(found.astype(np.int32)).transpose(UPRIGHT[facts.orientation]))
        return turned.astype(np.int64), (f"mask turned upright with the image (EXIF orientation {facts.orientation})",)
    raise ValueError(f"has {width}x{height} pixels, its image {facts.width}x{facts.height}")


def _unnamed(unknown: Mapping[int, int]) -> tuple[str, ...]:
    """The defect of values (with their pixels) that nobody named, in words."""
    if not unknown:
        return ()
    more = len(unknown) - SHOWN_VALUES
    shown = ", ".join(map(str, list(unknown)[:SHOWN_VALUES])) + (f" and {more} more" if more > 0 else "")
    return (f"mask has {sum(unknown.values())} pixels of value {shown}, which has no name: ignored",)
