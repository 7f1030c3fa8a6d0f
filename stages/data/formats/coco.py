"""COCO: JSON with boxes, polygons, crowds and keypoints; COCO 2017's folders, Roboflow's, or a single file.

Where no annotation has a box, their categories label whole images, as in iNaturalist's files.
"""

import posixpath
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stages.data.formats._coco_joints import completed
from stages.data.formats._coco_json import AnnotationFile, Image, in_order, read_annotation_files, split_of
from stages.data.formats._coco_objects import read_object
from stages.data.formats._files import Catalogue, printable, relative, shared_folders
from stages.data.records import Record, Rejected, Source


def read(root: Path, images: Path | None = None) -> Source:
    """Every image that an annotation file below `root` lists, found below `images` where given; labels are names.

    Boxes are xyxy of COCO's xywh, classes in the order of category ids, skeleton edges from 0. ValueError when there is
    no annotation or no image at all, or when a file is no JSON.
    """
    files = Catalogue(root)
    pictures = Catalogue(images) if images else files
    annotations = read_annotation_files(root, files.paths)
    if not pictures.images:
        raise ValueError(f"no image in {pictures.root}: name the folder that holds the images of {root} with --images")
    listing = _locate(annotations, pictures)
    unlisted, notes = _unlisted(listing, annotations, pictures)
    rejected = [*files.rejected, *(pictures.rejected if images else []), *unlisted]
    rejected += [item for file in annotations for item in file.rejected]
    categories = {(in_order(id), name) for file in annotations for id, name in file.categories.items()}
    titles = {name: title for file in annotations for name, title in file.titles.items()}
    skeletons = list(dict.fromkeys((file.skeleton, file.edges) for file in annotations if file.skeleton))
    has_boxes = _have_boxes(annotations)
    joints, edges = skeletons[0] if skeletons else ((), ())
    if len(skeletons) > 1:
        notes.append("the annotation files differ in their skeletons: the first one counts")
    return Source(
        task="detection" if has_boxes else "classification",
        classes={name: titles.get(name, name) for _, name in sorted(categories)},
        records=lambda: _records(listing, rejected, pictures, has_boxes),
        skeleton=joints,
        skeleton_edges=edges,
        licence=next((file.licence for file in annotations if file.licence), ""),
        origin=next((file.origin for file in annotations if file.origin), ""),
        notes=(*(note for file in annotations for note in file.notes), *notes),
    )


@dataclass(frozen=True)
class _Listed:
    """An image that is there, and the file that lists it."""

    path: str
    image: Image
    file: AnnotationFile


def _locate(annotations: list[AnnotationFile], pictures: Catalogue) -> list[_Listed | Rejected]:
    """Each entry of `images`, with its path; the first of two that share an id or a path counts."""
    outcomes: list[_Listed | Rejected] = []
    taken: dict[str, str] = {}
    for file in annotations:
        ids = set()
        for image in file.images:
            found = _find(image.file_name, file, pictures)
            if isinstance(found, Rejected):
                outcomes.append(found)
            elif image.id in ids:
                reason = f"image id {image.id!r} occurs twice in {file.path}: the first image has its annotations"
                outcomes.append(Rejected(found, reason))
            elif found in taken:
                outcomes.append(Rejected(found, f"listed again in {file.path}: that of {taken[found]} counts"))
            else:
                ids.add(image.id)
                taken[found] = file.path
                outcomes.append(_Listed(found, image, file))
    return outcomes


def _find(file_name: str, file: AnnotationFile, pictures: Catalogue) -> str | Rejected:
    """The image's path: beside the annotation file, as it stands, or wherever only one fits."""
    name = relative(file_name)
    if name is None:
        return Rejected(printable(file_name), f"file_name in {file.path} leaves the source folder")
    found = pictures.named(name) or _without_first_folders(name, pictures)
    for path in (posixpath.join(posixpath.dirname(file.path), name), name):
        if path in found:
            return path
    scores = {path: score for path in found if (score := _score(path, file)) >= 0}
    best = [path for path, score in scores.items() if score == max(scores.values())]
    if len(best) > 1:
        return Rejected(printable(file_name), f"several images fit this file_name in {file.path}: {', '.join(best)}")
    return best[0] if best else Rejected(printable(file_name), f"annotation without image: listed in {file.path}")


def _score(path: str, file: AnnotationFile) -> int:
    """How well an image's folders fit an annotation file; negative for those of another split."""
    parts = path.split("/")[:-1]
    splits = {split for part in parts if (split := split_of(part))}
    if file.split and splits and file.split not in splits:
        return -1
    return 4 * shared_folders(path, file.path) + 2 * any(part in file.name_parts for part in parts) + bool(splits)


def _without_first_folders(name: str, pictures: Catalogue) -> list[str]:
    """Images below folders that a file name begins with and that are not here ("HumanArt/images/a/1.jpg": "a/1.jpg").

    One folder stays in the name: the last part alone fits too much.
    """
    parts = name.split("/")
    names = ("/".join(parts[start:]) for start in range(1, len(parts) - 1))
    return next((found for shorter in names if (found := pictures.named(shorter))), [])


def _unlisted(
    listing: list[_Listed | Rejected], annotations: list[AnnotationFile], pictures: Catalogue
) -> tuple[list[Rejected], list[str]]:
    """Images in no annotation file; a test folder without one is by design and said once."""
    paths = {item.path for item in listing}
    without = [path for path in pictures.images if path not in paths]
    has_test = any(file.split == "test" for file in annotations)
    folder = {path: "" if has_test else _test_folder(path) for path in without}
    counts = Counter(name for name in folder.values() if name)
    notes = [f"the {count} images of {name} are in no annotation file: left out" for name, count in counts.items()]
    return [Rejected(path, "image without annotation") for path in without if not folder[path]], notes


def _test_folder(path: str) -> str:
    return next((part for part in path.split("/")[:-1] if split_of(part) == "test"), "")


def _records(
    listing: list[_Listed | Rejected], rejected: list[Rejected], pictures: Catalogue, has_boxes: bool
) -> Iterator[Record | Rejected]:
    read_one = _record if has_boxes else _labelled
    for item in sorted([*listing, *rejected], key=lambda item: item.path):
        yield item if isinstance(item, Rejected) else read_one(item, pictures)


def _have_boxes(annotations: list[AnnotationFile]) -> bool:
    """Whether this is detection, as it is without any annotation: images without objects."""
    entries = [entry for file in annotations for entry in file.annotations]
    return not entries or any(entry.keys() & {"bbox", "segmentation", "keypoints"} for entry in entries)


def _labelled(listed: _Listed, pictures: Catalogue) -> Record | Rejected:
    """A whole image with its labels."""
    file, image = listed.file, listed.image
    numbers = [annotation["category_id"] for annotation in file.objects.get(image.id, [])]
    labels = tuple(dict.fromkeys(file.categories[number] for number in numbers if number in file.categories))
    if not labels:
        return Rejected(listed.path, f"image without a label in {file.path}")
    return Record(
        listed.path, pictures.blob(listed.path), file.split, labels=labels, group=image.group, size_px=image.size_px
    )


def _record(listed: _Listed, pictures: Catalogue) -> Record:
    file, size_px = listed.file, listed.image.size_px
    boxes, defects = [], []
    for annotation in file.objects.get(listed.image.id, []):
        label = file.categories.get(annotation["category_id"])
        if label is None:
            defects.append(
                f"annotation {annotation.get('id')!r:.40}: category {annotation['category_id']!r} is not there: dropped"
            )
            continue
        whole, mended = completed(annotation, len(file.skeleton), size_px)
        box, found = read_object(whole, label, size_px, len(file.skeleton))
        boxes += [box] if box else []
        defects += [*mended, *found]
    return Record(
        listed.path,
        pictures.blob(listed.path),
        file.split,
        boxes=tuple(boxes),
        group=listed.image.group,
        size_px=size_px,
        defects=tuple(defects),
    )
