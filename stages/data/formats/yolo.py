"""YOLO: a text file an image, of boxes, outlines or joints in shares of the image; darknet's layout and the later ones.

An image without a text file is one without objects, as in the tools of that family; a note says so.
"""

import posixpath
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stages.data.formats._coco_json import split_of
from stages.data.formats._files import Catalogue, shared_folders
from stages.data.formats._sizes import upright_size_px
from stages.data.formats._yolo_config import LOOKED_FOR, Config, read_config
from stages.data.formats._yolo_lines import read_lines
from stages.data.formats._yolo_splits import Splits, read_splits
from stages.data.records import Record, Rejected, Source

_NO_LABELS = frozenset({"classes.txt", "labels.txt", "requirements.txt"})


def read(root: Path, images: Path | None = None) -> Source:
    """Every image below `root`, or below `images` where given, with the text file that belongs to it below `root`.

    ValueError when the classes have no names, or when there is no image or no label file at all.
    """
    files = Catalogue(root, image_folder="images")
    pictures = Catalogue(images, image_folder="images") if images else files
    config = read_config(root, files.paths)
    if not pictures.images:
        raise ValueError(f"no image in {pictures.root}: name the folder that holds the images of {root} with --images")
    splits = read_splits(files, pictures, config)
    pairs = _pair(files, pictures, config)
    if not any(pair.labels for pair in pairs):
        raise ValueError(f"no YOLO label file in {root}: looked for a .txt for each image, and {LOOKED_FOR}")
    used = {pair.labels for pair in pairs}
    orphans = [Rejected(path, "annotation without image") for path in _label_files(files, config) if path not in used]
    rejected = [*orphans, *splits.rejected, *files.rejected, *(pictures.rejected if images else [])]
    kept, notes = _without_unlabelled_test(pairs, splits)
    unsplit = sum(splits.find(pair.image) is None for pair in kept)
    if unsplit and (config.places or unsplit < len(kept)):
        notes.append(f"{unsplit} images are in no split: split by their hash")
    return Source(
        task="detection",
        classes={label: label for label in config.names.values()},
        records=partial(_records, kept, rejected, files, pictures, config, splits),
        skeleton=config.joints,
        licence=config.licence,
        origin=config.origin,
        notes=(*config.notes, *splits.notes, *notes),
    )


@dataclass(frozen=True)
class _Pair:
    """An image and its label file."""

    image: str
    labels: str | None
    others: tuple[str, ...] = ()  # label files that fit as well


def _label_files(files: Catalogue, config: Config) -> list[str]:
    """Text files that are no lists: those in folders named labels, where there are such folders."""
    listed = {posixpath.basename(place.replace("\\", "/")) for places in config.places.values() for place in places}
    texts = [path for path in files.paths if path.lower().endswith(".txt")]
    inner = [path for path in texts if "labels" in path.split("/")[:-1]]
    names = _NO_LABELS | listed | {"train.txt", "val.txt", "valid.txt", "test.txt", posixpath.basename(config.path)}
    readmes = ("readme", "license", "licence", "notice")
    return inner or [
        path
        for path in texts
        if (name := posixpath.basename(path)) not in names and not name.lower().startswith(readmes)
    ]


def _pair(files: Catalogue, pictures: Catalogue, config: Config) -> list[_Pair]:
    by_stem: dict[str, list[str]] = {}
    for path in _label_files(files, config):
        by_stem.setdefault(posixpath.splitext(posixpath.basename(path))[0], []).append(path)
    pairs = []
    for image in pictures.images:
        found = by_stem.get(posixpath.splitext(posixpath.basename(image))[0], [])
        scores = {path: score for path in found if (score := _score(image, path)) >= 0}
        best = [path for path, score in scores.items() if score == max(scores.values())]
        pairs.append(_Pair(image, best[0] if best else None, tuple(best[1:])))
    return pairs


def _score(image: str, labels: str) -> int:
    """How well the folders of a label file mirror those of an image; negative for those of another split."""
    mirrored = posixpath.join("/".join("labels" if part == "images" else part for part in image.split("/")[:-1]), "_")
    splits = [{split for part in path.split("/")[:-1] if (split := split_of(part))} for path in (image, labels)]
    return -1 if all(splits) and not splits[0] & splits[1] else shared_folders(mirrored, labels)


def _without_unlabelled_test(pairs: list[_Pair], splits: Splits) -> tuple[list[_Pair], list[str]]:
    """Without the test images where none of them has labels, which is by design; said once."""
    tests = [pair for pair in pairs if splits.find(pair.image) == "test"]
    if not tests or any(pair.labels for pair in tests):
        return pairs, []
    left = {pair.image for pair in tests}
    folders = Counter(posixpath.dirname(path) for path in left)
    notes = [f"the {count} images of {folder} have no label files: left out" for folder, count in folders.items()]
    return [pair for pair in pairs if pair.image not in left], notes


def _records(
    pairs: list[_Pair],
    rejected: list[Rejected],
    files: Catalogue,
    pictures: Catalogue,
    config: Config,
    splits: Splits,
) -> Iterator[Record | Rejected]:
    found: list[Rejected | tuple[str, _Pair]] = [*rejected, *((pair.image, pair) for pair in pairs)]
    for item in sorted(found, key=lambda item: item.path if isinstance(item, Rejected) else item[0]):
        if isinstance(item, Rejected):
            yield item
        else:
            yield _record(item[1], files, pictures, config, splits.find(item[0]))


def _record(pair: _Pair, files: Catalogue, pictures: Catalogue, config: Config, split: str | None) -> Record | Rejected:
    if pair.others:
        return Rejected(pair.image, f"several label files fit: {', '.join([str(pair.labels), *pair.others])}")
    if pair.labels is None and config.skips_unlabelled:
        return Rejected(pair.image, f"image without label file, which {config.path} says to skip")
    try:
        size_px = upright_size_px(pictures.root / pair.image)
        text = (files.root / pair.labels).read_text("utf-8-sig", "replace") if pair.labels else ""
    except OSError as error:
        return Rejected(pair.image, f"can't be read: {error.strerror or error}")
    except ValueError as error:
        return Rejected(pair.image, str(error))
    boxes, defects = read_lines(text, config.columns, size_px)
    if defects and not boxes:
        return Rejected(pair.image, f"no line of {pair.labels} can be used: {defects[0]}")
    if pair.labels is None:
        defects = ["no label file: taken as an image without objects"]
    told = tuple(f"{pair.labels} {defect}" if pair.labels else defect for defect in defects)
    return Record(pair.image, pictures.blob(pair.image), split, boxes=tuple(boxes), size_px=size_px, defects=told)
