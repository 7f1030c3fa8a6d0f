"""ImageNet (ILSVRC2012): the tar files as distributed, folders named by wnid, or one flat folder."""

import posixpath
from pathlib import Path

from stages.data.formats._files import SPLITS, count_images, files, folders, has_image, refuse_images
from stages.data.formats._ilsvrc_labels import LOOKED_FOR, find_labels
from stages.data.formats._ilsvrc_tars import Tars, find_tars
from stages.data.formats._wordnet import WordNetTree, is_class, titles, words_in_name
from stages.data.records import Source

_KAGGLE_FOLDERS = ("ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")
_LAYOUTS = "ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar, train|val/nXXXXXXXX/*.JPEG, nXXXXXXXX_label.JPEG"


def read(root: Path, images: Path | None = None) -> Source:
    """Whichever of the layouts `root` holds, tar files before folders; the label is the wnid.

    ValueError when it holds none of them, when a tar is compressed, or when a flat val has no ground truth.
    """
    refuse_images("imagenet", images)
    tars = find_tars(root)
    return _read_tars(root, tars) if tars else _read_tree(root)


def _read_tars(root: Path, names: dict[str, str]) -> Source:
    labels = find_labels(root)
    if "val" in names and not labels.val:
        raise ValueError(f"{root / names['val']} has no labels: looked beside it for {LOOKED_FOR}")
    tars = Tars(root, names, labels.val)
    wnids = tars.wnids()
    if not wnids:
        raise ValueError(f"{' and '.join(names.values())} in {root}: no tar named nXXXXXXXX.tar, no labelled image")
    beside = [name for name in folders(root) if name.lower() in SPLITS]
    notes = tuple(f"folder {name} lies beside the tar files, which count: left out" for name in beside)
    return Source("classification", titles(wnids, labels.words), tars.records, notes=notes)


def _read_tree(root: Path) -> Source:
    base = next((folder for folder in _KAGGLE_FOLDERS if (root / folder).is_dir()), "")
    splits = {name: SPLITS[name.lower()] for name in folders(root, base) if name.lower() in SPLITS}
    labels = find_labels(root, posixpath.join(base, "val"))
    unlabelled = [name for name, split in splits.items() if split != "train" and _is_flat(root, base, name)]
    notes = []
    for name in unlabelled:
        path = posixpath.join(base, name)
        if splits[name] == "val" and not labels.val:
            raise ValueError(f"{root / path} is flat and has no labels: looked in {root} for {LOOKED_FOR}")
        if splits[name] == "test":
            notes.append(f"the {count_images(root, path)} images of {path} have no labels: left out")
            del splits[name]
    tree = WordNetTree(root, base, splits, labels.val)
    wnids = tree.wnids()
    if not wnids:
        raise ValueError(f"no ImageNet class in {root}: looked for {_LAYOUTS}; for other class names use imagefolder")
    in_names = {wnid: words for path in files(root) for wnid, words in words_in_name(path).items()}
    return Source("classification", titles(wnids, in_names | labels.words), tree.records, notes=tuple(notes))


def _is_flat(root: Path, base: str, split: str) -> bool:
    path = posixpath.join(base, split)
    return has_image(root, path) and not any(map(is_class, folders(root, path)))
