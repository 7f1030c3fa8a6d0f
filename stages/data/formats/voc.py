"""Pascal VOC: one XML file an image, in a VOCdevkit, beside the images or apart from them."""

import posixpath
from pathlib import Path

from stages.data.formats._files import Catalogue, relative, shared_folders, stem
from stages.data.formats._voc_splits import SplitLists, missing, read_split_lists
from stages.data.formats._voc_xml import Annotation, read_annotation
from stages.data.records import Record, Rejected, Source


def read(root: Path, images: Path | None = None) -> Source:
    """Every XML annotation below `root` with its image, from `images` where given; splits are those of ImageSets/Main.

    Boxes keep VOC's raw numbers as continuous edges. ValueError when there is no annotation or no image at all.
    """
    files = Catalogue(root, image_folder="JPEGImages")
    pictures = Catalogue(images, image_folder="JPEGImages") if images else files
    found = [read_annotation(root, path) for path in files.paths if path.lower().endswith(".xml")]
    annotations = [item for item in found if isinstance(item, Annotation)]
    if not annotations:
        first = "".join(f"; {item.path} is {item.reason}" for item in found[:1] if isinstance(item, Rejected))
        raise ValueError(f"no Pascal VOC annotation in {root}: looked for *.xml with <annotation> as its root{first}")
    if not pictures.images:
        raise ValueError(f"no image in {pictures.root}: name the folder that holds the images of {root} with --images")
    lists = read_split_lists(root, files.paths)
    outcomes = _pair(found, pictures, lists)
    outcomes += _unannotated(outcomes, pictures)
    outcomes += missing(lists, {_name(path) for path in files.paths}, "Annotations/{}.xml")
    outcomes += files.rejected + (pictures.rejected if images else [])
    outcomes.sort(key=lambda item: item.path)
    records = [item for item in outcomes if isinstance(item, Record)]
    labels = {box.label for record in records for box in record.boxes or ()}
    return Source(
        task="detection",
        classes={label: label for label in sorted(labels)},
        records=lambda: iter(outcomes),
        notes=(*_misnamed(annotations, pictures), *_unsplit(records, lists)),
    )


def _pair(found: list[Annotation | Rejected], pictures: Catalogue, lists: list[SplitLists]) -> list[Record | Rejected]:
    """Annotations and images, one to one; those that agree on the name choose before those that don't."""
    outcomes: list[Record | Rejected] = [item for item in found if isinstance(item, Rejected)]
    choices: list[tuple[Annotation, list[str]]] = []
    for annotation in (item for item in found if isinstance(item, Annotation)):
        choice = _choose(annotation, pictures)
        if isinstance(choice, Rejected):
            outcomes.append(choice)
        else:
            choices.append((annotation, choice))
    taken: dict[str, str] = {}
    for annotation, paths in sorted(choices, key=lambda choice: stem(choice[1][0]) != _name(choice[0].path)):
        path = next((path for path in paths if path not in taken), None)
        if path is None:
            outcomes.append(Rejected(annotation.path, f"annotates {paths[0]}, as {taken[paths[0]]} does"))
        else:
            taken[path] = annotation.path
            outcomes.append(_record(annotation, path, pictures, lists))
    return outcomes


def _choose(annotation: Annotation, pictures: Catalogue) -> list[str] | Rejected:
    """The image that <filename> names, then the one that is called as the annotation file."""
    name = relative(annotation.filename) if annotation.filename else ""
    if name is None:
        return Rejected(annotation.path, f"<filename> {annotation.filename!r} leaves the source folder")
    named = _nearest(pictures.named(name), annotation.path)
    called = _nearest(pictures.stemmed(_name(annotation.path)), annotation.path)
    options = [paths[0] for paths in (named, called) if len(paths) == 1]
    if not options and (named or called):
        return Rejected(annotation.path, f"several images fit: {', '.join(named or called)}")
    return options or Rejected(
        annotation.path, f"annotation without image: {name or _name(annotation.path)} is missing"
    )


def _nearest(paths: list[str], annotation: str) -> list[str]:
    closeness = [shared_folders(path, annotation) for path in paths]
    return [path for path, value in zip(paths, closeness, strict=True) if value == max(closeness)]


def _name(annotation: str) -> str:
    return posixpath.splitext(posixpath.basename(annotation))[0]


def _record(annotation: Annotation, path: str, pictures: Catalogue, lists: list[SplitLists]) -> Record:
    inner = next((item for item in lists if annotation.path.startswith(item.base)), None)
    listed = inner.find(annotation.path) if inner else None
    return Record(
        path,
        pictures.blob(path),
        split=inner.splits[listed] if inner and listed else None,
        boxes=annotation.boxes,
        size_px=annotation.size_px,
        defects=annotation.defects,
    )


def _unannotated(outcomes: list[Record | Rejected], pictures: Catalogue) -> list[Rejected]:
    """Images that no annotation speaks for; that of a rejected annotation is reported with it."""
    known = {item.path for item in outcomes if isinstance(item, Record)}
    for item in outcomes:
        if isinstance(item, Rejected):
            known.update(_nearest(pictures.stemmed(_name(item.path)), item.path))
    return [Rejected(path, "image without annotation") for path in pictures.images if path not in known]


def _misnamed(annotations: list[Annotation], pictures: Catalogue) -> list[str]:
    names = (relative(annotation.filename) for annotation in annotations if annotation.filename)
    count = sum(name is not None and not pictures.named(name) for name in names)
    return [f"{count} annotations have a <filename> that is not there: their own name counts"] if count else []


def _unsplit(records: list[Record], lists: list[SplitLists]) -> list[str]:
    count = sum(record.split is None for record in records) if lists else 0
    unlisted = [f"{count} images are in no list of ImageSets/Main: split by their hash"] if count else []
    return [note for item in lists for note in item.notes] + unlisted
