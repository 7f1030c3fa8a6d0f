"""CamVid (Brostow et al. 2009): SegNet's edition with 11 classes as numbers, or the original's 32 as colours."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from stages.data.formats._files import SPLITS, Catalogue, folders, inside, refuse_images, stem
from stages.data.formats._masks import (
    COLOUR_FILES,
    Outcomes,
    folder_of,
    images_under,
    masked,
    paired,
    read_colours,
    source,
    without_suffix,
)
from stages.data.records import Record, Rejected, Source

# SegNet's edition (Badrinarayanan et al. 2015): the value of a pixel is the place of its class, 11 is void.
SEGNET = (
    "Sky",
    "Building",
    "Pole",
    "Road",
    "Pavement",
    "Tree",
    "SignSymbol",
    "Fence",
    "Car",
    "Pedestrian",
    "Bicyclist",
)
SEGNET_VOID = len(SEGNET)


def read(root: Path, images: Path | None = None) -> Source:
    """Whichever edition `root` holds. Frames of the original are grouped by their film where no folder names a split.

    ValueError when it holds neither.
    """
    refuse_images("camvid", images)
    splits = {name: SPLITS[name] for name in folders(root) if name in SPLITS and (root / f"{name}annot").is_dir()}
    if splits:
        return _segnet(root, splits)
    colours = next((file for name in COLOUR_FILES if (file := inside(root, name))), None)
    if colours is None:
        looked_for = f"train|val|test with trainannot|valannot|testannot, {' and '.join(COLOUR_FILES)}"
        raise ValueError(f"{root} is not CamVid: looked for {looked_for}")
    return _colour_coded(root, read_colours(colours))


def _segnet(root: Path, splits: Mapping[str, str]) -> Source:
    files, names = Catalogue(root), dict(enumerate(SEGNET))
    outcomes: Outcomes = [*files.rejected]
    notes = []
    for folder, split in splits.items():
        pictures = images_under(files, f"{folder}/")
        pairs, rejected = paired(_stems(pictures), _stems(images_under(files, f"{folder}annot/")))
        missing, unlisted = _listed(root, folder, {stem(path) for path in pictures})
        outcomes += [*rejected, *missing]
        outcomes += [
            Record(image, files.blob(image), split, mask=masked(root, mask, names, {SEGNET_VOID}))
            for image, mask in pairs
        ]
        notes += [f"{unlisted} images of {folder} are not in {folder}.txt: taken as well"] if unlisted else []
    return source(outcomes, SEGNET, notes)


def _stems(paths: list[str]) -> Iterator[tuple[str, str]]:
    return ((stem(path), path) for path in paths)


def _listed(root: Path, folder: str, there: set[str]) -> tuple[list[Rejected], int]:
    """Names in FOLDER.txt that are not there, and how many images it lacks. Its folders are of another machine."""
    file = inside(root, f"{folder}.txt")
    if file is None:
        return [], 0
    lines = file.read_text("utf-8-sig", "replace").splitlines()
    names = dict.fromkeys(stem(line.split()[0].replace("\\", "/")) for line in lines if line.strip())
    reason = f"listed in {folder}.txt, but not there"
    return [Rejected(f"{folder}/{name}", reason) for name in names if name not in there], len(there - names.keys())


def _colour_coded(root: Path, names: Mapping[int, str]) -> Source:
    files = Catalogue(root)
    masks = [path for path in files.images if _is_mask(path)]
    pictures = [path for path in files.images if not _is_mask(path)]
    pairs, rejected = paired(
        (((_split(path), stem(path)), path) for path in pictures),
        (((_split(path), without_suffix(path, "_L") or stem(path)), path) for path in masks),
    )
    outcomes: Outcomes = [*files.rejected, *rejected]
    for image, mask in pairs:
        split = _split(image)
        film = None if split else stem(image).rpartition("_")[0] or None
        outcomes.append(Record(image, files.blob(image), split, mask=masked(root, mask, names), group=film))
    return source(outcomes, names.values())


def _is_mask(path: str) -> bool:
    return without_suffix(path, "_L") is not None or re.search("label|annot|mask", folder_of(path).lower()) is not None


def _split(path: str) -> str | None:
    """What the folder says: train, train_labels, trainannot."""
    match = re.match("train|val|test", folder_of(path).lower())
    return SPLITS[match[0]] if match else None
