"""COCO's panoptic format (Kirillov et al. 2019), read as semantic masks: each segment is its category."""

import json
import posixpath
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.data.formats._coco_json import split_of
from stages.data.formats._files import Catalogue, inside, printable, relative, shared_folders
from stages.data.formats._masks import Outcomes, masked, source
from stages.data.records import Record, Rejected, Source

_PARTS = ("images", "annotations", "categories")
_UNLABELLED = 0  # the value of a pixel in no segment


def read(root: Path, images: Path | None = None) -> Source:
    """Every image that a panoptic JSON below `root` annotates, found below `images` where given; labels are names.

    The PNGs lie in the folder that is called as the JSON is. ValueError when there is no annotation or no image.
    """
    files = Catalogue(root)
    pictures = Catalogue(images) if images else files
    found = [file for path in files.paths if (file := _panoptic(root, path))]
    if not found:
        raise ValueError(f"no panoptic annotation in {root}: looked for *.json with segments_info in its annotations")
    outcomes: Outcomes = []
    taken: set[str] = set()
    for file in found:
        for annotation in file.annotations:
            item = _outcome(file, annotation, files, pictures)
            if isinstance(item, Record) and item.path in taken:
                item = Rejected(item.path, f"listed again in {file.path}: the first annotation counts")
            taken.add(item.path)
            outcomes.append(item)
    if not any(isinstance(item, Record) for item in outcomes) and not pictures.images:
        raise ValueError(f"no image in {pictures.root}: name the folder that holds the images of {root} with --images")
    categories = {id: name for file in found for id, name in file.categories.items()}
    notes = _notes([file.folder for file in found], pictures, taken)
    return source(outcomes, (categories[id] for id in sorted(categories)), notes)


@dataclass(frozen=True)
class _File:
    """One panoptic JSON."""

    path: str
    annotations: list[dict[str, Any]]
    images: dict[Any, dict[str, Any]]  # by id
    categories: dict[int, str]

    @property
    def folder(self) -> str:
        """Where its PNGs lie."""
        return posixpath.splitext(self.path)[0]


def _panoptic(root: Path, path: str) -> _File | None:
    """The content of a panoptic JSON; None for another file. ValueError where its name says that it should be one."""
    name = posixpath.basename(path)
    if not name.endswith(".json"):
        return None
    try:
        content = json.loads((root / path).read_bytes())
    except (ValueError, RecursionError) as error:
        if name.startswith("panoptic"):
            raise ValueError(f"{root / path} is not JSON that can be read: {error}") from None
        return None
    if not isinstance(content, dict) or not all(isinstance(content.get(part), list) for part in _PARTS):
        return None
    entries = [entry for entry in content["annotations"] if isinstance(entry, dict) and _is_annotation(entry)]
    if not entries or not all(map(_is_category, content["categories"])):
        return None
    images = {entry.get("id"): entry for entry in content["images"] if isinstance(entry, dict)}
    return _File(path, entries, images, {entry["id"]: str(entry["name"]) for entry in content["categories"]})


def _is_annotation(entry: dict[str, Any]) -> bool:
    return isinstance(entry.get("segments_info"), list) and isinstance(entry.get("file_name"), str)


def _is_category(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("id"), int) and isinstance(entry.get("name"), str)


def _outcome(file: _File, annotation: dict[str, Any], files: Catalogue, pictures: Catalogue) -> Record | Rejected:
    """The image of an annotation, with its mask; or why there is none."""
    mask = _mask_path(file, annotation["file_name"], files)
    if mask is None:
        return Rejected(printable(annotation["file_name"]), f"mask of {file.path} is not there")
    entry = file.images.get(annotation.get("image_id"), {})
    image = _image_path(file, str(entry.get("file_name", "")), pictures)
    if image is None:
        return Rejected(mask, f"annotation without image: {printable(str(entry.get('file_name')))} of {file.path}")
    names, defects = _segments(annotation["segments_info"], file.categories)
    width, height = entry.get("width"), entry.get("height")
    return Record(
        image,
        pictures.blob(image),
        _split(file.path),
        mask=masked(files.root, mask, names, {_UNLABELLED}),
        size_px=(width, height) if isinstance(width, int) and isinstance(height, int) else None,
        defects=tuple(defects),
    )


def _segments(segments: list[Any], categories: dict[int, str]) -> tuple[dict[int, str], list[str]]:
    """Segment id -> name of its category, and what is wrong with the others."""
    names, defects = {}, []
    for segment in segments:
        known = isinstance(segment, dict) and isinstance(segment.get("id"), int)
        if known and segment.get("category_id") in categories:
            names[segment["id"]] = categories[segment["category_id"]]
        else:
            defects.append(f"segment {segment!r:.60}: no id, or a category that is not there: ignored")
    return names, defects


def _mask_path(file: _File, file_name: str, files: Catalogue) -> str | None:
    name = relative(file_name)
    options = [posixpath.join(base, name) for base in (file.folder, posixpath.dirname(file.path))] if name else []
    return next((option for option in options if inside(files.root, option)), None)


def _image_path(file: _File, file_name: str, pictures: Catalogue) -> str | None:
    """Among the images of this name, that whose folders fit the annotation best; never a mask."""
    name = relative(file_name)
    found = [image for image in pictures.named(name) if not image.startswith(f"{file.folder}/")] if name else []

    def fitness(image: str) -> tuple[bool, int]:
        return _split(posixpath.dirname(image) + "/.") == _split(file.path), shared_folders(image, file.path)

    return max(found, key=fitness, default=None)


def _split(path: str) -> str | None:
    """What the name of the JSON says, or else a folder."""
    parts = [*posixpath.splitext(posixpath.basename(path))[0].split("_"), *reversed(path.split("/")[:-1])]
    return next((split for part in parts if (split := split_of(part))), None)


def _notes(folders: list[str], pictures: Catalogue, taken: set[str]) -> list[str]:
    """Images that no JSON annotates, said once a folder; PNGs may be masks of another kind."""
    inner = tuple(f"{folder}/" for folder in folders)
    left = Counter(
        posixpath.dirname(path) or "."
        for path in pictures.images
        if path not in taken and not path.startswith(inner) and not path.lower().endswith(".png")
    )
    return [f"the {count} images of {folder} are in no panoptic annotation: left out" for folder, count in left.items()]
