"""MPII Human Pose (Andriluka et al. 2014): JSON lists as top-down programs share them, or the original MATLAB file.

JSON: a list of persons with `image`, `joints` [16, 2], `joints_vis` [16], `center` and `scale` (200 pixels a unit).
MATLAB: `RELEASE` with `annolist` and `img_train`; persons without joints there have no published truth. Coordinates
are kept as they are, MATLAB's pixels from 1: half a pixel to the right of ours. The box is that of the joints, with a
margin.
"""

import json
import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.data.formats._coco_json import split_of
from stages.data.formats._files import Catalogue, printable, relative
from stages.data.formats._joints import BOX_NOTE, box_of, flat, outside, size_of
from stages.data.formats._mat import read_mat
from stages.data.records import Box, Record, Rejected, Source
from stages.params.skeleton import MPII_JOINTS

EDGES = (
    *((0, 1), (1, 2), (2, 6), (6, 3), (3, 4), (4, 5), (6, 7), (7, 8)),
    *((8, 9), (7, 12), (12, 11), (11, 10), (7, 13), (13, 14), (14, 15)),
)
LABEL = "person"
NO_TRUTH = "person without joints: MPII does not publish those of its test images"


@dataclass(frozen=True, eq=False)
class _Person:
    """One person of a file; joints float [16, 3] (x, y, visibility), None where the file has none."""

    image: str
    file: str
    split: str | None
    joints: NDArray[np.float64] | None


def read(root: Path, images: Path | None = None) -> Source:
    """Every image that has a person with joints. ValueError when there is neither JSON nor a MATLAB file of MPII's."""
    files = Catalogue(root)
    pictures = Catalogue(images, "images") if images else Catalogue(root, "images")
    persons, notes = _read_lists(root, files.paths)
    if not persons:
        persons = [person for path in files.paths if path.endswith(".mat") for person in _read_release(root, path)]
    if not persons:
        raise ValueError(f"{root}: looked for a JSON list of persons with joints_vis and for mpii_human_pose_*.mat")
    if not pictures.images:
        raise ValueError(f"no image in {pictures.root}: name the folder that holds the images of {root} with --images")
    return Source(
        task="detection",
        classes={LABEL: LABEL},
        records=lambda: _records(persons, pictures),
        skeleton=MPII_JOINTS,
        skeleton_edges=EDGES,
        notes=(BOX_NOTE, *notes),
    )


def _read_lists(root: Path, paths: Iterable[str]) -> tuple[list[_Person], list[str]]:
    """The persons of all JSON lists, and the other files in words."""
    persons: list[_Person] = []
    notes = []
    for path in (path for path in paths if path.endswith(".json")):
        try:
            content = json.loads((root / path).read_bytes())
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{root / path} is not JSON that can be read: {error}") from None
        is_list = isinstance(content, list) and any(isinstance(e, dict) and "image" in e for e in content)
        if is_list:
            persons += [_of_entry(entry, path) for entry in content]
        else:
            notes.append(f"{path} is no list of MPII's persons: left out")
    return persons, notes


def _of_entry(entry: Any, path: str) -> _Person:
    said = entry if isinstance(entry, dict) else {}
    named = {split for part in re.split(r"[_.]", posixpath.basename(path)) if (split := split_of(part))}
    split = named.pop() if len(named) == 1 else None
    try:
        points = np.array(said["joints"], np.float64).reshape(16, 2)
        seen = np.array(said["joints_vis"], np.float64).reshape(16, 1)
        joints = np.hstack([points, np.where(seen > 0, 2.0, 0.0)])
    except (KeyError, ValueError, TypeError):
        joints = None
    if joints is not None and not np.isfinite(joints).all():
        joints = None
    return _Person(str(said.get("image", "")), path, split, joints)


def _read_release(root: Path, path: str) -> Iterator[_Person]:
    """The persons of the original file. Its training images have no split here: MPII names none for validation."""
    release = read_mat(root / path, "RELEASE", struct_as_record=False, squeeze_me=True)
    is_train = np.atleast_1d(getattr(release, "img_train", []))
    for number, image in enumerate(np.atleast_1d(getattr(release, "annolist", []))):
        name = str(getattr(getattr(image, "image", None), "name", ""))
        persons = np.atleast_1d(getattr(image, "annorect", []))
        if number < len(is_train) and not is_train[number]:
            persons = persons[:1]  # told once that there is no truth
        for person in persons:
            yield _Person(name, path, None, _points(person))


def _points(person: Any) -> NDArray[np.float64] | None:
    """The annotated points [16, 3] of `annorect.annopoints.point` (id, x, y, is_visible); None where there are none."""
    listed = getattr(getattr(person, "annopoints", None), "point", None)
    points = [point for point in np.atleast_1d(listed) if hasattr(point, "id")] if listed is not None else []
    joints = np.zeros((len(MPII_JOINTS), 3))
    for point in points:
        try:
            number, x, y = int(point.id), float(point.x), float(point.y)
        except (TypeError, ValueError):
            continue
        # Some heads have no is_visible; anything but 0 is seen.
        hidden = str(getattr(point, "is_visible", 1)) == "0"
        if 0 <= number < len(joints) and np.isfinite([x, y]).all():
            joints[number] = x, y, 1.0 if hidden else 2.0
    return joints if points else None


def _records(persons: list[_Person], pictures: Catalogue) -> Iterator[Record | Rejected]:
    by_image: dict[str, list[_Person]] = {}
    items: list[Record | Rejected] = list(pictures.rejected)
    for person in persons:
        by_image.setdefault(person.image, []).append(person)
    taken = set()
    for name, listed in by_image.items():
        path = relative(name)
        found = pictures.named(path) if path else []
        if len(found) == 1:
            taken.add(found[0])
            items.append(_record(found[0], listed, pictures))
        else:
            told = f"several images fit: {', '.join(found)}" if found else "annotation without image"
            items.append(Rejected(printable(name) or listed[0].file, f"{told}: listed in {listed[0].file}"))
    items += [Rejected(path, "image without annotation") for path in pictures.images if path not in taken]
    yield from sorted(items, key=lambda item: item.path)


def _record(path: str, persons: list[_Person], pictures: Catalogue) -> Record | Rejected:
    """An image with the persons of the first file that lists it: trainval repeats those of train and valid."""
    persons = [person for person in persons if person.file == persons[0].file]
    shown = [person.joints for person in persons if person.joints is not None]
    if not shown:
        return Rejected(path, NO_TRUTH)
    size_px = size_of(pictures.root / path)
    boxes, defects = [], []
    for joints in shown:
        xyxy = box_of(joints, size_px)
        defects += (
            outside(joints, size_px, MPII_JOINTS) if xyxy else ["no joint of a person lies in the image: dropped"]
        )
        boxes += [Box(LABEL, xyxy, keypoints=flat(joints))] if xyxy else []
    if len(shown) < len(persons):
        defects.append(f"{len(persons) - len(shown)} persons without 16 joints: dropped")
    split = persons[0].split
    return Record(path, pictures.blob(path), split, boxes=tuple(boxes), size_px=size_px, defects=tuple(defects))
