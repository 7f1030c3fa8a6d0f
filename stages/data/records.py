"""What a source format is read into: the one vocabulary between stages/data/formats and the dataset's writer."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


class Content(Protocol):
    """Where the bytes of an image come from."""

    def read(self) -> bytes:
        """An encoded image; OSError when it can't be read."""
        ...

    def num_bytes(self) -> int:
        """About as many as are read; OSError when nobody can tell."""
        ...


VOID = 255  # in a stored mask: a pixel that is not labelled


@dataclass(frozen=True)
class Blob:
    """Bytes that lie in a file, or in a part of it (a member of an uncompressed tar)."""

    file: Path
    offset: int = 0
    size: int | None = None  # None: to the end of the file

    def read(self) -> bytes:
        """The bytes, by one positioned read; OSError when the file can't be read."""
        with self.file.open("rb") as f:
            size = self.size if self.size is not None else os.fstat(f.fileno()).st_size - self.offset
            return os.pread(f.fileno(), size, self.offset)

    def num_bytes(self) -> int:
        """As many as are read; OSError when there is no such file."""
        return self.size if self.size is not None else self.file.stat().st_size - self.offset


@dataclass(frozen=True)
class Box:
    """One object: a labelled box, with what else the source knows of it."""

    label: str
    xyxy: tuple[float, float, float, float]  # pixels of the stored image, as the source gives them
    is_crowd: bool = False
    difficult: bool = False
    truncated: bool = False
    polygons: tuple[tuple[float, ...], ...] = ()  # x, y, x, y, ... of each part
    rle: str | None = None  # COCO's compressed run lengths, where the source has no polygons
    keypoints: tuple[float, ...] = ()  # x, y, visibility of each joint of the skeleton


@dataclass(frozen=True)
class Mask:
    """A label for every pixel: an image whose values have names.

    The value of a grey or palette pixel is its number (a palette's colours say nothing), that of a colour pixel is
    red + 256 green + 65536 blue. Values without a name are ignored; those not in `void` either are a defect.
    """

    image: Blob
    names: Mapping[int, str]
    void: frozenset[int] = frozenset()  # values that the source sets aside: border, ego vehicle, not labelled


@dataclass(frozen=True)
class Record:
    """One sample of a source: an image and its annotation."""

    path: str  # relative to the source folder, '/' between parts; unique within a source
    image: Content
    split: str | None = None  # train, val, test; None: the dataset splits by the image's hash
    labels: tuple[str, ...] = ()  # of the whole image
    boxes: tuple[Box, ...] | None = None  # None: the source has no boxes at all; (): an image without objects
    mask: Mask | None = None  # None: the source has no mask of this image
    group: str | None = None  # samples of one group (a video) stay in one split
    size_px: tuple[int, int] | None = None  # width, height that the annotation claims
    defects: tuple[str, ...] = ()  # what was repaired or looks wrong, in words


@dataclass(frozen=True)
class Rejected:
    """Something in the source that can't become a sample."""

    path: str
    reason: str


@dataclass(frozen=True)
class Source:
    """An opened source: facts of the whole, and its records in a fixed order (sorted by path)."""

    task: str  # classification, detection or segmentation: what the labels are for
    classes: Mapping[str, str]  # label -> name for people ("n01443537" -> "goldfish"), in the order of the source
    records: Callable[[], Iterator[Record | Rejected]]
    skeleton: tuple[str, ...] = ()  # joint names
    skeleton_edges: tuple[tuple[int, int], ...] = ()  # pairs of joint numbers, from 0
    licence: str = ""
    origin: str = ""
    notes: tuple[str, ...] = field(default=())  # said once, after ingest ("10 images are in no annotation file")
