"""Pairs of an image and an index PNG: images/ beside masks/, annotations/ or labels/, with a split above or below."""

from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path

import numpy as np

from stages.data.formats._coco_json import split_of
from stages.data.formats._files import Catalogue, stem
from stages.data.formats._masks import Outcomes, find_names, masked, paired, source
from stages.data.masks import values
from stages.data.records import VOID, Record, Source

_IMAGES = ("images", "imgs", "image", "img")
_MASKS = ("masks", "mask", "annotations", "labels")  # the first that is there
_SUFFIXES = ("_mask", "_label", "_labels", "_gt", "_seg", "_segmentation")
_NAME_IT = f"name both in a classes.txt, as in 0: background and {VOID}: thing"
_LOOKED_FOR = "images/ with masks/, annotations/ or labels/ of PNGs"


def read(root: Path, images: Path | None = None) -> Source:
    """Every image with the mask of its name, from `images` where given; folders named train, val or test are splits.

    Names of values come from classes.txt, labels.txt, class_dict.csv, label_colors.txt or `classes` of a config.yaml,
    at the top, beside the folder of masks or in it; without one, values are their own names, but for 255. ValueError
    when there is no mask, no image or no name.
    """
    files = Catalogue(root)
    folder = next((name for name in _MASKS if any(_place(path, (name,)) for path in files.images)), None)
    if folder is None:
        raise ValueError(f"no mask in {root}: looked for {_LOOKED_FOR}")
    masks = [path for path in files.images if _place(path, (folder,))]
    pictures = Catalogue(images) if images else files
    candidates = [path for path in pictures.images if images or (_place(path, _IMAGES) and not _place(path, (folder,)))]
    if not candidates:
        raise ValueError(f"no image in {pictures.root}: looked for {_LOOKED_FOR}, or name the folder of the images")
    parts = masks[0].split("/")[: _place(masks[0], (folder,))]
    places = [root, root.joinpath(*parts[:-1]), root.joinpath(*parts)]
    names, notes = next((found for place in places if (found := find_names(place))), None), []
    if names is None:
        names = _own_names(root, masks)
        notes.append(f"no classes.txt: the {len(names)} values are their own names")
    pairs, rejected = paired(
        _named(candidates, _IMAGES, ()),
        _named(masks, (folder,), _SUFFIXES if not _are_plain(candidates, masks) else ()),
    )
    outcomes: Outcomes = [*files.rejected, *(pictures.rejected if images else []), *rejected]
    outcomes += [
        Record(image, pictures.blob(image), _split(image) or _split(mask), mask=masked(root, mask, names, {VOID}))
        for image, mask in pairs
    ]
    return source(outcomes, names.values(), notes)


def _place(path: str, folders: Iterable[str]) -> int:
    """How many folders deep the last of such a name lies, from 1; 0 without one."""
    parts = path.split("/")[:-1]
    return max((i for i, part in enumerate(parts, start=1) if part.lower() in folders), default=0)


def _named(paths: Iterable[str], folders: Iterable[str], suffixes: Iterable[str]) -> Iterator[tuple[Hashable, str]]:
    """Each path with its split, the folders below that of its kind, and its stem, by which an image meets its mask."""
    for path in paths:
        below = path.split("/")[_place(path, folders) : -1]
        name = stem(path)
        for suffix in suffixes:
            name = name.removesuffix(suffix)
        yield (_split(path), tuple(part for part in below if split_of(part) is None), name), path


def _are_plain(images: Iterable[str], masks: Iterable[str]) -> bool:
    """Whether some mask is called as its image is, so that no suffix needs to go."""
    return bool({stem(path) for path in images} & {stem(path) for path in masks})


def _split(path: str) -> str | None:
    return next((split for part in path.split("/")[:-1] if (split := split_of(part))), None)


def _own_names(root: Path, masks: Iterable[str]) -> dict[int, str]:
    """The values that all masks show, as names; a mask that can't be read is looked at again, and rejected, later."""
    found: set[int] = set()
    for mask in masks:
        try:
            found |= set(np.unique(values((root / mask).read_bytes())).tolist())
        except (ValueError, OSError):
            continue
        if max(found) > VOID:
            raise ValueError(f"{root / mask} has values over {VOID}, as colours do: name them in class_dict.csv")
    if VOID in found and len(found) == 2:
        raise ValueError(
            f"the masks in {root} show {min(found)} and {VOID} alone, and {VOID} counts as not labelled: {_NAME_IT}"
        )
    return {value: str(value) for value in sorted(found - {VOID})}
