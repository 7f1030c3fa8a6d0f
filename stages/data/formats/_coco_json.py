"""COCO annotation files (cocodataset.org/#format-data): those of a folder, checked and indexed."""

import json
import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stages.data.formats._coco_joints import unnamed
from stages.data.formats._files import SPLITS, printable
from stages.data.records import Rejected

Id = int | str
_OTHER_KINDS = ("captions_", "image_info_", "panoptic_", "stuff_")
_INSTANCES, _KEYPOINTS = "instances_", "person_keypoints_"
_PARTS = ("images", "annotations", "categories")


@dataclass(frozen=True)
class Image:
    """One entry of `images`."""

    id: Id
    file_name: str
    size_px: tuple[int, int] | None
    group: str | None = None  # the video that it is of


@dataclass(frozen=True)
class AnnotationFile:
    """One detection file."""

    path: str
    categories: dict[Id, str]  # in the order of the ids
    images: list[Image]
    objects: dict[Id, list[dict[str, Any]]]  # image id -> its annotations
    skeleton: tuple[str, ...] = ()
    edges: tuple[tuple[int, int], ...] = ()
    licence: str = ""
    origin: str = ""
    rejected: tuple[Rejected, ...] = ()
    notes: tuple[str, ...] = ()
    titles: dict[str, str] = field(default_factory=dict)  # category -> name for people, where our export gave one

    @property
    def name_parts(self) -> list[str]:
        """["instances", "train2017", "json"] of "annotations/instances_train2017.json"."""
        return re.split(r"[_.]", posixpath.basename(self.path))

    @property
    def annotations(self) -> Iterator[dict[str, Any]]:
        """Those that belong to an image."""
        return (entry for image_id, listed in self.objects.items() if image_id != "" for entry in listed)

    @property
    def split(self) -> str | None:
        """What the file's name says, or else that of its folder."""
        named = {split for part in self.name_parts if (split := split_of(part))}
        return named.pop() if len(named) == 1 else split_of(posixpath.basename(posixpath.dirname(self.path)))


def split_of(name: str) -> str | None:
    """train, val or test for "train2017", "valid", "test-dev2017"; None for another name."""
    match = re.fullmatch(r"(train|validation|valid|val|test)(-?dev)?[-_]?\d*", name.lower())
    return SPLITS[match[1]] if match else None


def read_annotation_files(root: Path, paths: Iterable[str]) -> list[AnnotationFile]:
    """The detection files among `paths`; keypoints are merged into the instances of the same images.

    ValueError when a file is no JSON or when none is left, with what each of the others lacks.
    """
    contents = {path: _load(root / path) for path in paths if _may_annotate(path)}
    lacking = [f"{path} has no list {part!r}" for path, content in contents.items() if (part := _lacks(content))]
    found = {path: _index(root, path, content) for path, content in contents.items() if not _lacks(content)}
    if not found:
        looked_for = (
            "*.json, annotations/*.json and train|val|test/*annotations*.json with images, annotations and categories"
        )
        raise ValueError(f"no COCO annotation in {root}: looked for {'; '.join([looked_for, *lacking])}")
    for path in [path for path in found if posixpath.basename(path).startswith(_KEYPOINTS)]:
        instances = posixpath.join(posixpath.dirname(path), posixpath.basename(path).replace(_KEYPOINTS, _INSTANCES, 1))
        if instances in found:
            found[instances] = _merge(found[instances], found.pop(path))
    first, *others = found.values()
    return [replace(first, notes=(*first.notes, *(f"{note}: left out" for note in lacking))), *others]


def _may_annotate(path: str) -> bool:
    """Not every JSON of a folder: there are package files, predictions and one-an-image annotations of other tools."""
    folder, name = posixpath.split(path)
    is_beside_images = split_of(folder) is not None and re.search("annotation|coco|instances|labels", name)
    is_place = not folder or "annotations" in folder.split("/") or is_beside_images
    return bool(is_place) and name.lower().endswith(".json") and not name.startswith(_OTHER_KINDS)


def _load(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not JSON that can be read: {error}") from error


def _lacks(content: Any) -> str | None:
    is_complete = isinstance(content, dict)
    return next((part for part in _PARTS if not is_complete or not isinstance(content.get(part), list)), None)


def _index(root: Path, path: str, content: dict[str, Any]) -> AnnotationFile:
    if _holds_answers(content):
        raise ValueError(f"{root / path} holds answers of a model: correct them, then set labelled in its info to true")
    videos = _read_videos(content.get("videos"))
    images = [image for entry in content["images"] if (image := _read_image(entry, videos))]
    objects = _group_by_image(content["annotations"])
    categories = _read_categories(root / path, content["categories"])
    groups = _find_groups(categories, objects)
    joints, edges, num_bad_edges = _read_skeleton(categories)
    notes = [f"category {categories[id]['name']!r} of {path} only groups others: left out" for id in groups]
    if not joints and (joints := unnamed(entry for id, listed in objects.items() if id != "" for entry in listed)):
        notes.append(f"{path} names no joints: they are called {joints[0]} to {joints[-1]}")
    if num_bad_edges:
        notes.append(f"{num_bad_edges} edges of the skeleton in {path} name a joint that it lacks: left out")
    return AnnotationFile(
        path,
        categories={id: entry["name"] for id, entry in categories.items() if id not in groups},
        images=images,
        objects=objects,
        skeleton=joints,
        edges=edges,
        rejected=_reject(path, len(content["images"]), images, objects),
        notes=tuple(notes),
        titles={e["name"]: e["title"] for e in categories.values() if isinstance(e.get("title"), str)},
        **_read_provenance(content),
    )


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str) and value != ""


def _holds_answers(content: dict[str, Any]) -> bool:
    """Whether nobody looked at these annotations: the file says so, or, as detectors do, each has a score."""
    said = info.get("labelled") if isinstance(info := content.get("info"), dict) else None
    entries = content["annotations"]
    are_scored = bool(entries) and all(isinstance(entry, dict) and "score" in entry for entry in entries)
    return said is False or (said is not True and are_scored)


def _read_videos(entries: Any) -> dict[Id, str]:
    """id -> name of the videos that TAO's and ImageNet VID's files list: images of one stay in one split."""
    listed = entries if isinstance(entries, list) else []
    sound = [entry for entry in listed if isinstance(entry, dict) and _is_id(entry.get("id"))]
    return {entry["id"]: printable(str(entry.get("name", entry["id"]))) for entry in sound}


def _read_image(entry: Any, videos: dict[Id, str]) -> Image | None:
    if not isinstance(entry, dict) or not _is_id(entry.get("id")) or not isinstance(entry.get("file_name"), str):
        return None
    width, height = entry.get("width"), entry.get("height")
    group = videos.get(entry["video_id"]) if _is_id(entry.get("video_id")) else None
    if not (isinstance(width, int) and isinstance(height, int) and min(width, height) > 0):
        return Image(entry["id"], entry["file_name"], None, group)
    return Image(entry["id"], entry["file_name"], (width, height), group)


def _group_by_image(entries: list[Any]) -> dict[Id, list[dict[str, Any]]]:
    """image id -> annotations; those of the empty id are no annotations."""
    objects: dict[Id, list[dict[str, Any]]] = {}
    for entry in entries:
        is_complete = isinstance(entry, dict) and _is_id(entry.get("image_id")) and _is_id(entry.get("category_id"))
        objects.setdefault(entry["image_id"] if is_complete else "", []).append(entry)
    return objects


def _reject(path: str, num_entries: int, images: list[Image], objects: dict[Id, list[Any]]) -> tuple[Rejected, ...]:
    reasons = []
    if num_entries > len(images):
        reasons.append(f"{num_entries - len(images)} entries of images have no id or file_name")
    ids = {image.id for image in images}
    for id, orphans in objects.items():
        if id == "":
            reasons.append(f"{len(orphans)} annotations have no image_id or category_id")
        elif id not in ids:
            reasons.append(f"annotation without image: {len(orphans)} of image_id {id!r}, which is not in images")
    return tuple(Rejected(path, reason) for reason in sorted(reasons))


def _read_categories(file: Path, entries: list[Any]) -> dict[Id, dict[str, Any]]:
    """id -> category, in the order of the ids; ValueError for an entry without id or name, or an id with two names."""
    categories: dict[Id, dict[str, Any]] = {}
    for entry in entries:
        name = entry.get("name") if isinstance(entry, dict) and _is_id(entry.get("id")) else None
        if not isinstance(name, str) or name != printable(name):
            raise ValueError(f"{file}: category {entry!r:.80} needs an id and a name")
        if categories.setdefault(entry["id"], entry)["name"] != entry["name"]:
            raise ValueError(f"{file}: category id {entry['id']!r} has two names: make ids unique")
    return {id: categories[id] for id in sorted(categories, key=in_order)}


def in_order(id: Id) -> tuple[bool, Id]:
    """Sort key of ids: numbers first."""
    return isinstance(id, str), id


def _find_groups(categories: dict[Id, dict[str, Any]], objects: dict[Id, list[dict[str, Any]]]) -> list[Id]:
    """Categories without objects that are the supercategory of others, as Roboflow's exports begin with one."""
    used = {entry["category_id"] for id, listed in objects.items() if id != "" for entry in listed}
    above = {(entry.get("supercategory"), id) for id, entry in categories.items() if _is_id(entry.get("supercategory"))}
    return [
        id
        for id, entry in categories.items()
        if id not in used and any(name == entry["name"] and other != id for name, other in above)
    ]


def _read_skeleton(categories: dict[Id, dict[str, Any]]) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...], int]:
    """Joints and edges of the first category that has joints, and how many edges name a joint that is not there."""
    entry = next((entry for entry in categories.values() if isinstance(entry.get("keypoints"), list)), {})
    joints = tuple(map(str, entry.get("keypoints", [])))
    edges = listed if isinstance(listed := entry.get("skeleton"), list) else []
    numbers = range(1, len(joints) + 1)  # COCO counts joints from 1
    good = [edge for edge in edges if isinstance(edge, list) and len(edge) == 2 and all(end in numbers for end in edge)]
    return joints, tuple((a - 1, b - 1) for a, b in good), len(edges) - len(good)


def _read_provenance(content: dict[str, Any]) -> dict[str, str]:
    info, licences = content.get("info"), content.get("licenses")
    origin = info.get("url") if isinstance(info, dict) else None
    names = [entry.get("name") for entry in licences if isinstance(entry, dict)] if isinstance(licences, list) else []
    return {
        "origin": origin if isinstance(origin, str) else "",
        "licence": "; ".join(name for name in names if isinstance(name, str) and name),
    }


def _merge(instances: AnnotationFile, keypoints: AnnotationFile) -> AnnotationFile:
    """The instances, with the joints of annotations that have the same id and image."""
    joints = {
        (image_id, entry["id"]): entry.get("keypoints")
        for image_id, listed in keypoints.objects.items()
        for entry in listed
        if image_id != "" and _is_id(entry.get("id"))
    }
    objects = {
        image_id: [
            {**entry, "keypoints": joints.pop((image_id, entry["id"]))}
            if (image_id, entry.get("id")) in joints
            else entry
            for entry in listed
        ]
        for image_id, listed in instances.objects.items()
    }
    left = [f"{len(joints)} annotations of {keypoints.path} are not in {instances.path}: left out"] if joints else []
    return replace(
        instances,
        objects=objects,
        skeleton=keypoints.skeleton,
        edges=keypoints.edges,
        notes=(*instances.notes, *keypoints.notes, *left),
    )
