"""COCO: annotations/instances_SPLIT.json beside the images in SPLIT (cocodataset.org/#format-data).

Beyond COCO's own keys: `title` of a category, `attributes` of an annotation (as CVAT writes them), and `videos` with
`video_id` (as TAO has them) for images that must stay together.
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stages.data import run_lengths
from stages.data.dataset import Description
from stages.data.index import Row
from stages.data.writers._samples import Sample

KINDS, HOLDS = ("classification", "detection"), "labels and objects"


def place(row: Row) -> str | None:
    """A folder a split."""
    return str(row["split"])


def keeps(thing: Row) -> bool:
    """Every object."""
    return True


def write(folder: Path, samples: Iterable[Sample], description: Description) -> None:
    """A JSON file a split; ids are unique over all of them."""
    documents: dict[str, dict[str, Any]] = {}
    with_joints: set[str] = set()
    ids = {label: number for number, label in enumerate(description.classes, start=1)}
    num_annotations = 0
    for number, sample in enumerate(samples, start=1):
        document = documents.setdefault(sample.row["split"], {"images": [], "annotations": [], "videos": {}})
        document["images"].append(_image(number, sample, document["videos"]))
        for annotation in _annotations(sample.row, ids):
            num_annotations += 1
            document["annotations"].append({"id": num_annotations, "image_id": number, **annotation})
        with_joints |= {thing["label"] for thing in sample.row["objects"] or [] if thing["keypoints"]}
    (folder / "annotations").mkdir()
    for split, document in documents.items():
        videos = [{"id": id, "name": name} for name, id in document.pop("videos").items()]
        said = {**_header(description), **document, "categories": _categories(ids, description, with_joints)}
        said |= {"videos": videos} if videos else {}
        text = json.dumps(said, ensure_ascii=False, allow_nan=False)
        (folder / "annotations" / f"instances_{split}.json").write_text(text, encoding="utf8")


def _header(description: Description) -> dict[str, Any]:
    licences = [{"id": 1, "name": description.licence, "url": ""}] if description.licence else []
    return {"info": {"url": description.origin, "description": ""}, "licenses": licences}


def _image(number: int, sample: Sample, videos: dict[str, int]) -> dict[str, Any]:
    row, group = sample.row, sample.row["group"]
    facts = {"file_name": Path(sample.path).name, "width": row["width"], "height": row["height"]}
    return {"id": number, **facts, **({"video_id": videos.setdefault(group, len(videos) + 1)} if group else {})}


def _annotations(row: Row, ids: dict[str, int]) -> list[dict[str, Any]]:
    """Of the objects, or of the whole image where the dataset has no objects."""
    if row["objects"] is None:
        return [{"category_id": ids[label]} for label in row["labels"]]
    return [_object(thing, ids, (row["width"], row["height"])) for thing in row["objects"]]


def _object(thing: Row, ids: dict[str, int], size_px: tuple[int, int]) -> dict[str, Any]:
    x1, y1, x2, y2 = thing["bbox_xyxy"]
    bbox = [x1, y1, _extent(x1, x2), _extent(y1, y2)]
    segmentation: Any = thing["polygons"]
    area = sum(_polygon_area(part) for part in thing["polygons"]) or bbox[2] * bbox[3]
    if thing["rle"]:
        segmentation = {"size": [size_px[1], size_px[0]], "counts": thing["rle"]}
        area = run_lengths.area(segmentation)
    told = {"category_id": ids[thing["label"]], "bbox": bbox, "area": area, "iscrowd": int(thing["is_crowd"])}
    told["segmentation"] = segmentation
    if thing["keypoints"]:
        told |= {"keypoints": thing["keypoints"], "num_keypoints": sum(v > 0 for v in thing["keypoints"][2::3])}
    flags = {name: True for name in ("difficult", "truncated") if thing[name]}
    return {**told, "attributes": flags} if flags else told


def _extent(start: float, end: float) -> float:
    """end - start, as a number that gives `end` back to the last bit when it is added, if there is one near."""
    width = end - start
    near = (width, math.nextafter(width, math.inf), math.nextafter(width, 0.0))
    return next((value for value in near if start + value == end), width)


def _polygon_area(part: list[float]) -> float:
    """The shoelace formula."""
    xs, ys = part[::2], part[1::2]
    return abs(sum(xs[i - 1] * ys[i] - xs[i] * ys[i - 1] for i in range(len(xs)))) / 2


def _categories(ids: dict[str, int], description: Description, with_joints: set[str]) -> list[dict[str, Any]]:
    """In the order of the classes; the joints stand with those that have some, or with the first."""
    owners = (with_joints or {*list(ids)[:1]}) if description.skeleton else set()
    edges = [[a + 1, b + 1] for a, b in description.skeleton_edges]  # COCO counts joints from 1
    skeleton = {"keypoints": list(description.skeleton), "skeleton": edges}
    return [
        {
            "id": number,
            "name": label,
            "supercategory": "",
            **({"title": title} if (title := description.classes[label]) != label else {}),
            **(skeleton if label in owners else {}),
        }
        for label, number in ids.items()
    ]
