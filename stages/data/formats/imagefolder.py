"""ImageFolder: a folder a class, below a folder a split or not (torchvision.datasets.ImageFolder)."""

import posixpath
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from stages.data.formats._files import SPLITS, folders, has_image, is_image, refuse_images, walk
from stages.data.records import Blob, Record, Rejected, Source

# At the top of a source or a split these describe the data; inside a class folder they are strays.
_DESCRIPTIONS = frozenset({"", ".txt", ".md", ".rst", ".csv", ".json", ".yaml", ".yml", ".pdf", ".html"})


def read(root: Path, images: Path | None = None) -> Source:
    """Images in class folders, below train, val (valid, validation) and test or not; the folder's name is the label.

    ValueError when no class folder holds an image.
    """
    refuse_images("imagefolder", images)
    splits = _split_folders(root)
    filled = {path: has_image(root, path) for path in _class_folders(root, splits)}
    labels = sorted({posixpath.basename(path) for path, is_filled in filled.items() if is_filled})
    if not labels:
        raise ValueError(f"no image in {root}: looked for CLASS/IMAGE and for train|val|test/CLASS/IMAGE")
    notes = [f"class folder {path} holds no image" for path, is_filled in filled.items() if not is_filled]
    if len(labels) == 1:
        notes.append(f"{labels[0]!r} is the only class: is {root.name} the folder that holds the class folders?")
    return Source(
        task="classification",
        classes={label: label for label in labels},
        records=partial(_records, root, splits),
        notes=tuple(notes),
    )


def _split_folders(root: Path) -> dict[str, str]:
    """Folders named as a split. One without folders inside is a class of that name: trains are one of VOC's classes."""
    return {name: SPLITS[name.lower()] for name in folders(root) if name.lower() in SPLITS and folders(root, name)}


def _class_folders(root: Path, splits: dict[str, str]) -> list[str]:
    if not splits:
        return folders(root)
    return [f"{split}/{name}" for split in splits for name in folders(root, split)]


def _records(root: Path, splits: dict[str, str]) -> Iterator[Record | Rejected]:
    for path in walk(root):
        item = path if isinstance(path, Rejected) else _item(root, path, splits)
        if item is not None:
            yield item


def _item(root: Path, path: str, splits: dict[str, str]) -> Record | Rejected | None:
    parts = path.split("/")
    split = splits.get(parts[0]) if len(parts) > 1 else None
    inner = parts[1:] if split else parts
    if len(inner) == 1 and posixpath.splitext(path)[1].lower() in _DESCRIPTIONS:
        return None
    if not is_image(path):
        return Rejected(path, "not an image file")
    if len(inner) == 1:
        return Rejected(path, "image outside a class folder")
    if splits and not split:
        return Rejected(path, f"image outside the split folders {', '.join(splits)}")
    return Record(path, Blob(root / path), split, labels=(inner[0],))
