"""Penn-Fudan pedestrians (Wang et al. 2007): images, masks of instance numbers, and PASCAL 1.00 annotation texts."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.data import run_lengths
from stages.data.formats._files import files, inside, is_image, printable, refuse_images, stem
from stages.data.records import Blob, Box, Record, Rejected, Source

IMAGES, MASKS, ANNOTATIONS = "PNGImages", "PedMasks", "Annotation"
CLASS = "pedestrian"
_KIND = "PASCAL Annotation Version 1.00"  # the first line of each text
_MAX_BYTES = 1 << 20  # an annotation of a crowd has 10 KB
_SIZE = re.compile(r"^Image size \(X x Y x C\) : (\d+) x (\d+) x \d+", re.MULTILINE)
_BOX = re.compile(
    r'^Bounding box for object (\d+) "(\w*)" \(Xmin, Ymin\) - \(Xmax, Ymax\) : \((\d+), (\d+)\) - \((\d+), (\d+)\)',
    re.MULTILINE,
)


@dataclass(frozen=True)
class _Annotation:
    """What one text says: size, and box by object number."""

    size_px: tuple[int, int] | None
    boxes: dict[int, tuple[float, float, float, float]]
    postures: tuple[str, ...]


def read(root: Path, images: Path | None = None) -> Source:
    """Every image of PNGImages with its annotation; the mask of object i are the pixels of value i in PedMasks.

    All objects are of one class: whether a person walks or stands is said once, in the notes. The text's boxes count
    from 1 with both ends inside. There is no split in the source. ValueError when a folder has no annotated image.
    """
    refuse_images("pennfudan", images)
    pictures = [path for path in files(root, IMAGES) if is_image(path)] if (root / IMAGES).is_dir() else []
    if not pictures or not (root / ANNOTATIONS).is_dir():
        raise ValueError(f"no Penn-Fudan data in {root}: looked for {IMAGES}/*.png and {ANNOTATIONS}/*.txt")
    texts = {stem(path).removesuffix(".txt"): path for path in files(root, ANNOTATIONS) if path.endswith(".txt")}
    found = {path: _read_text(root, texts[stem(path)]) for path in pictures if stem(path) in texts}
    annotations = [item for item in found.values() if isinstance(item, _Annotation)]
    if found and not annotations:
        raise ValueError(f"no Penn-Fudan data in {root}: none of the texts in {ANNOTATIONS} is a {_KIND}")
    postures = Counter(name for annotation in annotations for name in annotation.postures)
    said = ", ".join(f"{name} {count}" for name, count in sorted(postures.items()))
    return Source(
        task="detection",
        classes={CLASS: CLASS},
        records=lambda: _records(root, pictures, texts, found),
        notes=(f"all objects are of class {CLASS}; the source calls them {said}",) if said else (),
    )


def _records(
    root: Path, pictures: list[str], texts: dict[str, str], found: dict[str, _Annotation | Rejected]
) -> Iterator[Record | Rejected]:
    names = {stem(path) for path in pictures}
    rejected = [Rejected(path, "annotation without image") for name, path in texts.items() if name not in names]
    rejected += [Rejected(path, "image without annotation") for path in pictures if path not in found]
    rejected += [item for item in found.values() if isinstance(item, Rejected)]
    annotations = {path: item for path, item in found.items() if isinstance(item, _Annotation)}
    reasons = {item.path: item for item in rejected}
    for path in sorted([*annotations, *reasons]):
        yield reasons[path] if path in reasons else _record(root, path, annotations[path])


def _record(root: Path, path: str, annotation: _Annotation) -> Record:
    numbers, defects = _read_mask(root, f"{MASKS}/{stem(path)}_mask.png", annotation)
    boxes = []
    for number, xyxy in annotation.boxes.items():
        if xyxy[2] <= xyxy[0] or xyxy[3] <= xyxy[1]:
            defects.append(f"object {number} has a box without area: dropped")
            continue
        pixels = numbers == number if numbers is not None else None
        rle = run_lengths.encoded(pixels)["counts"] if pixels is not None and pixels.any() else None
        if numbers is not None and rle is None:
            defects.append(f"object {number} has no pixel in the mask: kept as a box")
        boxes.append(Box(CLASS, xyxy, rle=rle))
    unknown = [] if numbers is None else sorted({*np.unique(numbers).tolist()} - {0, *annotation.boxes})
    if unknown:
        defects.append(f"mask values {', '.join(map(str, unknown))} belong to no object: left out")
    return Record(path, Blob(root / path), boxes=tuple(boxes), size_px=annotation.size_px, defects=tuple(defects))


def _read_text(root: Path, path: str) -> _Annotation | Rejected:
    """The annotation at `path`; Rejected when it can't be read or is another kind of text."""
    try:
        if (root / path).stat().st_size > _MAX_BYTES:
            return Rejected(path, f"larger than {_MAX_BYTES} bytes: not a {_KIND}")
        text = (root / path).read_text(encoding="latin-1")
    except OSError as error:
        return Rejected(path, f"can't be read: {error.strerror or error}")
    if _KIND not in text:
        return Rejected(path, f"not a {_KIND}")
    size = _SIZE.search(text)
    rows = [(int(number), name, tuple(map(int, edges))) for number, name, *edges in _BOX.findall(text)]
    return _Annotation(
        (int(size[1]), int(size[2])) if size else None,
        {number: (x1 - 1.0, y1 - 1.0, float(x2), float(y2)) for number, _, (x1, y1, x2, y2) in rows},
        tuple(name for _, name, _ in rows),
    )


def _read_mask(root: Path, path: str, annotation: _Annotation) -> tuple[NDArray[np.int64] | None, list[str]]:
    """Instance numbers [H, W] and no defect, or none and why."""
    file = inside(root, path)
    if file is None:
        return None, [f"{path} is missing: boxes without masks"]
    try:
        with Image.open(file) as image:
            if image.mode not in ("L", "P", "I", "I;16"):
                return None, [f"{path} is {image.mode}, not an index of objects: boxes without masks"]
            if annotation.size_px is not None and image.size != annotation.size_px:
                claimed = "x".join(map(str, annotation.size_px))
                return None, [f"{path} is {image.width}x{image.height}, not {claimed}: boxes without masks"]
            return np.asarray(image).astype(np.int64), []
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        return None, [f"{path} can't be read ({printable(str(error))}): boxes without masks"]
