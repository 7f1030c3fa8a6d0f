"""Pascal VOC's segmentation of classes: SegmentationClass with ImageSets/Segmentation, 20 classes and background."""

import posixpath
from pathlib import Path

from stages.data.formats._files import Catalogue, stem
from stages.data.formats._masks import Outcomes, find_names, masked, paired, source
from stages.data.formats._voc_splits import SplitLists, missing, read_split_lists
from stages.data.records import Record, Rejected, Source

# The value of a pixel is the place of its class (Everingham et al. 2010); 255 is the border of objects.
CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
BORDER = 255
_MASKS, _LISTS = "SegmentationClass", "ImageSets/Segmentation/"


def read(root: Path, images: Path | None = None) -> Source:
    """Every mask of a SegmentationClass folder with its image; names of other classes come from a classes.txt.

    Images without a mask are VOC's usual case, and said once. ValueError when there is no mask or no image at all.
    """
    files = Catalogue(root, image_folder=_MASKS)
    masks = [path for path in files.images if posixpath.dirname(f"/{path}").endswith(f"/{_MASKS}")]
    if not masks:
        raise ValueError(f"no mask in {root}: looked for {_MASKS}/*.png beside JPEGImages")
    pictures = Catalogue(images or root, image_folder="JPEGImages")
    candidates = [path for path in pictures.images if images or "/JPEGImages/" in f"/{path}"]
    if not candidates:
        raise ValueError(f"no image in {pictures.root}: name the folder that holds the images of {root} with --images")
    names = find_names(root) or dict(enumerate(CLASSES))
    pairs, rejected = paired(
        (((_base(path, "JPEGImages", bool(images)), stem(path)), path) for path in candidates),
        (((_base(path, _MASKS, bool(images)), stem(path)), path) for path in masks),
    )
    lists = read_split_lists(root, files.paths, _LISTS)
    outcomes: Outcomes = [
        Record(image, pictures.blob(image), _split(lists, mask), mask=masked(root, mask, names, {BORDER}))
        for image, mask in pairs
    ]
    unmasked = [item for item in rejected if item.reason == "image without mask"]
    listed = {name for item in lists for name in item.splits}
    notes = [note for item in lists for note in item.notes]
    notes += [f"{len(unmasked)} images have no mask: left out"] if unmasked else []
    num_unlisted = sum(isinstance(item, Record) and item.split is None for item in outcomes) if lists else 0
    notes += [f"{num_unlisted} images are in no list of {_LISTS}: split by their hash"] if num_unlisted else []
    outcomes += [item for item in rejected if item not in unmasked]
    outcomes += [
        Rejected(item.path, f"listed in {_LISTS}, but without mask") for item in unmasked if stem(item.path) in listed
    ]
    # One of which there is the image or the mask alone is told already.
    outcomes += missing(lists, {stem(path) for path in (*candidates, *masks)}, "JPEGImages/{}.jpg")
    outcomes += files.rejected + (pictures.rejected if images else [])
    return source(outcomes, names.values(), notes)


def _base(path: str, folder: str, is_apart: bool) -> str:
    """The VOC folder that a file belongs to; one for all where the images lie elsewhere."""
    return "" if is_apart else f"/{path}".partition(f"/{folder}/")[0]


def _split(lists: list[SplitLists], mask: str) -> str | None:
    inner = next((item for item in lists if mask.startswith(item.base)), None)
    return inner.splits.get(stem(mask)) if inner else None
