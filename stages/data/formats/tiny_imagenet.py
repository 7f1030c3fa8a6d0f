"""Tiny ImageNet: train/WNID/images, val/images with val_annotations.txt (Stanford CS231n, tiny-imagenet-200)."""

from pathlib import Path

from stages.data.formats._files import count_images, folders, inside, refuse_images
from stages.data.formats._wordnet import WordNetTree, read_val_annotations, read_words, titles
from stages.data.records import Source


def read(root: Path, images: Path | None = None) -> Source:
    """The labelled train and val images; the one box an image is left aside, and so is test, which has no labels.

    ValueError when train holds no wnid folder, or val has no list.
    """
    refuse_images("tiny-imagenet", images)
    annotations = inside(root, "val/val_annotations.txt")
    tree = WordNetTree(
        root,
        splits={name: name for name in folders(root) if name in ("train", "val")},
        listed=read_val_annotations(annotations) if annotations else {},
    )
    wnids = tree.wnids()
    if not wnids:
        raise ValueError(f"{root} is not tiny-imagenet: looked for train/nXXXXXXXX/images and val/val_annotations.txt")
    if (root / "val" / "images").is_dir() and annotations is None:
        raise ValueError(f"{root}/val/images has no labels: val/val_annotations.txt is missing")
    words = inside(root, "words.txt")
    return Source(
        task="classification",
        classes=titles(wnids, read_words(words) if words else {}),
        records=tree.records,
        notes=_notes(root),
    )


def _notes(root: Path) -> tuple[str, ...]:
    if "test" not in folders(root):
        return ()
    return (f"the {count_images(root, 'test')} images of test have no labels: left out",)
