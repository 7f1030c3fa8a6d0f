"""Cityscapes (Cordts et al. 2016): leftImg8bit and gtFine, the 19 classes that are evaluated."""

from pathlib import Path

from stages.data.formats._files import Catalogue, folders, refuse_images
from stages.data.formats._masks import Outcomes, folder_of, images_under, masked, paired, source, without_suffix
from stages.data.records import Record, Source
from stages.metrics.cityscapes import LABEL_IDS

_IMAGE, _LABEL_IDS, _TRAIN_IDS = "_leftImg8bit", "_gtFine_labelIds", "_gtFine_labelTrainIds"
_NUM_LABEL_IDS = 34  # 0 to 33; the others of them are not evaluated
_NOT_EVALUATED = 255  # in train ids


def read(root: Path, images: Path | None = None) -> Source:
    """train and val by name of the class, from label ids or else train ids; a city is a group.

    test comes without labels and is left out. ValueError when there is no labelled image.
    """
    refuse_images("cityscapes", images)
    files = Catalogue(root)
    outcomes: Outcomes = [*files.rejected]
    for split in ("train", "val"):
        outcomes += _split(files, split)
    if not any(isinstance(item, Record) for item in outcomes):
        looked_for = "leftImg8bit/train|val/CITY/*_leftImg8bit.png with gtFine/train|val/CITY/*_gtFine_labelIds.png"
        raise ValueError(f"no labelled image of Cityscapes in {root}: looked for {looked_for}")
    others = [name for name in folders(root, "leftImg8bit") if name not in ("train", "val")]
    counts = {name: len(images_under(files, f"leftImg8bit/{name}/")) for name in others}
    notes = [f"the {count} images of leftImg8bit/{name} have no labels: left out" for name, count in counts.items()]
    return source(outcomes, LABEL_IDS, notes, origin="https://www.cityscapes-dataset.com")


def _split(files: Catalogue, split: str) -> Outcomes:
    annotations = images_under(files, f"gtFine/{split}/")
    by_label = [path for path in annotations if without_suffix(path, _LABEL_IDS)]
    suffix = _LABEL_IDS if by_label else _TRAIN_IDS
    pairs, rejected = paired(
        ((without_suffix(path, _IMAGE) or path, path) for path in images_under(files, f"leftImg8bit/{split}/")),
        ((name, path) for path in annotations if (name := without_suffix(path, suffix))),
    )
    if by_label:
        names = {value: name for name, value in LABEL_IDS.items()}
        void = {*range(_NUM_LABEL_IDS)} - names.keys()
    else:
        names, void = dict(enumerate(LABEL_IDS)), {_NOT_EVALUATED}
    records = [
        Record(image, files.blob(image), split, mask=masked(files.root, mask, names, void), group=folder_of(image))
        for image, mask in pairs
    ]
    return [*rejected, *records]
