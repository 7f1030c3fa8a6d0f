"""OCHuman (Zhang et al. 2019, github.com/liruilong940607/OCHumanApi): its own ochuman.json, or COCO's form.

Its own: 19 joints, boxes xyxy, masks of outer and inner polygons, visibility 1 seen, 2 hidden by the person, 3 by
others. As in its own conversion to COCO, 1 and 2 become COCO's 2 (visible), and 3 becomes 1.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask

from stages.data.formats import coco
from stages.data.formats._coco_objects import read_object
from stages.data.formats._files import Catalogue, printable, relative
from stages.data.records import Box, Record, Rejected, Source

LABEL = "person"
OWN = "ochuman.json"
VISIBILITY = {0: 0.0, 1: 2.0, 2: 2.0, 3: 1.0}


def read(root: Path, images: Path | None = None) -> Source:
    """Persons with boxes, joints and masks where they have them; one without joints is ignored when measuring joints.

    ValueError when ochuman.json is not as OCHuman's own, and as format coco where there is none.
    """
    files = Catalogue(root)
    own = next((path for path in files.paths if path.rpartition("/")[2] == OWN), None)
    if own is None:
        return coco.read(root, images)
    content = _load(root / own)
    pictures = Catalogue(images) if images else files
    names = tuple(map(str, content["keypoint_names"]))
    return Source(
        task="detection",
        classes={LABEL: LABEL},
        records=lambda: _records(content["images"], pictures, len(names)),
        skeleton=names,
        skeleton_edges=edges_of(names),
        notes=("OCHuman is made for testing and names no splits: --split test",),
    )


def edges_of(names: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """The bones between those of OCHuman's joints that are there."""
    limbs = [(f"{side}_{a}", f"{side}_{b}") for side in ("left", "right") for a, b in _LIMBS]
    bones = [*limbs, ("left_hip", "right_hip"), ("neck", "left_shoulder"), ("neck", "right_shoulder"), ("head", "neck")]
    return tuple((names.index(a), names.index(b)) for a, b in bones if a in names and b in names)


_LIMBS = (
    *(("shoulder", "elbow"), ("elbow", "wrist"), ("shoulder", "hip")),
    *(("hip", "knee"), ("knee", "ankle"), ("eye", "ear")),
)


def _load(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not JSON that can be read: {error}") from None
    lists = ("keypoint_names", "images")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in lists):
        raise ValueError(f"{file}: OCHuman's own file has the lists {' and '.join(lists)}")
    return content


def _records(entries: list[Any], pictures: Catalogue, num_joints: int) -> Iterator[Record | Rejected]:
    items = [_item(entry, pictures, num_joints) for entry in entries]
    listed = {item.path for item in items}
    items += [Rejected(path, "image without annotation") for path in pictures.images if path not in listed]
    yield from sorted([*items, *pictures.rejected], key=lambda item: item.path)


def _item(entry: Any, pictures: Catalogue, num_joints: int) -> Record | Rejected:
    name = relative(entry["file_name"]) if isinstance(entry, dict) and isinstance(entry.get("file_name"), str) else None
    if name is None:
        return Rejected(printable(f"{entry!r:.60}"), "an entry of images without a file_name in the source")
    found = pictures.named(name)
    if len(found) != 1:
        told = f"several images fit: {', '.join(found)}" if found else f"annotation without image: listed in {OWN}"
        return Rejected(printable(name), told)
    width, height = entry.get("width"), entry.get("height")
    size_px = (width, height) if isinstance(width, int) and isinstance(height, int) else None
    boxes: list[Box] = []
    defects: list[str] = []
    for number, person in enumerate(entry["annotations"] if isinstance(entry.get("annotations"), list) else ()):
        box, wrong = _person(person, number, size_px, num_joints)
        boxes += [box] if box else []
        defects += wrong
    return Record(found[0], pictures.blob(found[0]), boxes=tuple(boxes), size_px=size_px, defects=tuple(defects))


def _person(person: Any, number: int, size_px: tuple[int, int] | None, num_joints: int) -> tuple[Box | None, list[str]]:
    """A person through COCO's checks, so that nothing unchecked gets further."""
    entry: dict[str, Any] = person if isinstance(person, dict) else {}
    corners: Any = entry.get("bbox")
    joints: Any = entry.get("keypoints")
    try:
        x1, y1, x2, y2 = corners
        bbox = [x1, y1, x2 - x1, y2 - y1]
        triples = list(zip(joints[::3], joints[1::3], joints[2::3], strict=True)) if joints else []
        seen = [v for x, y, v in triples for v in ((x, y, VISIBILITY[int(v)]) if VISIBILITY[int(v)] else (0, 0, 0))]
    except (ValueError, TypeError, KeyError):
        return None, [f"person {number}: bbox or keypoints {entry!r:.60} are not OCHuman's: dropped"]
    segmentation, wrong = _mask(entry.get("segms"), size_px)
    whole = {"id": number, "bbox": bbox, "keypoints": seen or [0] * 3 * num_joints, "segmentation": segmentation}
    box, defects = read_object(whole, LABEL, size_px, num_joints)
    return box, [*wrong, *defects]


def _mask(segms: Any, size_px: tuple[int, int] | None) -> tuple[Any, list[str]]:
    """Polygons, or run lengths where there are holes, in COCO's form."""
    outer = segms.get("outer") if isinstance(segms, dict) else None
    inner = segms.get("inner") if isinstance(segms, dict) else None
    if not outer or not inner:
        return outer or [], []
    if size_px is None:
        return outer, ["holes of a mask dropped: the image's size is not given"]
    try:
        area, holes = (mask.decode(mask.merge(mask.frPyObjects(p, size_px[1], size_px[0]))) for p in (outer, inner))
    except (TypeError, ValueError, IndexError):
        return [], ["segms are no polygons: dropped"]
    encoded = mask.encode(np.asfortranarray(area & ~holes.astype(bool)).astype(np.uint8))
    return {"size": encoded["size"], "counts": encoded["counts"].decode("ascii")}, []
