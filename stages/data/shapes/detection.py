"""Scenes of many objects, in the layouts that COCO 2017 and Pascal VOC have on disk."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from stages.data.shapes.canvas import Figure
from stages.data.shapes.outlines import ARROW_EDGES, ARROW_JOINTS
from stages.data.shapes.scenes import SCENE_SHAPES, scene
from stages.data.shapes.sprites import polygon_area
from stages.data.shapes.studio import draw_all, generator, save, unfinished

# Ids do not depend on how many pictures there are.
_COCO_FIRST_IDS = {"train": 1, "val": 1_000_001, "test": 2_000_001}
_COCO_OBJECTS = 100  # ids kept free for the objects of a picture


@dataclass(frozen=True)
class Place:
    """One scene to be drawn; a seed has the same scenes in every layout."""

    file: Path
    split: str
    index: int
    seed: int
    size_px: tuple[int, int]  # height, width

    @property
    def coco_id(self) -> int:
        """Number of the picture in COCO's JSON."""
        return _COCO_FIRST_IDS[self.split] + self.index

    def draw(self) -> list[Figure]:
        """Draw and write it; its labelled objects."""
        canvas = scene(generator(self.seed, "scene", self.split, self.index), self.size_px)
        save(canvas.photograph(), self.file)
        return canvas.figures()


def write_coco(
    folder: Path,
    num_train: int,
    num_val: int,
    num_test: int,
    size_px: tuple[int, int] = (240, 320),
    seed: int = 0,
    workers: int | None = None,
) -> None:
    """COCO 2017's folders and JSON with boxes, polygons, and the keypoints of arrows; `size_px` is height, width.

    Boxes and polygons bound what is visible. FileExistsError when `folder` exists.
    """
    with unfinished(folder) as part:
        (part / "annotations").mkdir()
        for split, count in (("train", num_train), ("val", num_val), ("test", num_test)):
            images = part / f"{split}2017"
            first = _COCO_FIRST_IDS[split]
            places = [Place(images / f"{first + i:012d}.jpg", split, i, seed, size_px) for i in range(count)]
            figures = draw_all(Place.draw, places, f"{folder.name} {split}", workers)
            document = json.dumps(_coco_document(dict(zip(places, figures, strict=True))))
            (part / "annotations" / f"instances_{split}2017.json").write_text(document)


def write_voc(
    folder: Path,
    num_train: int,
    num_val: int,
    num_test: int,
    size_px: tuple[int, int] = (240, 320),
    seed: int = 0,
    workers: int | None = None,
) -> None:
    """The scenes of `write_coco` in Pascal VOC's folders and XML; `size_px` is height, width.

    Box edges are COCO's, continuous and counted from 0. FileExistsError when `folder` exists.
    """
    with unfinished(folder) as part:
        for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
            (part / name).mkdir(parents=True)
        for split, count in (("train", num_train), ("val", num_val), ("test", num_test)):
            names = [f"{split}_{index + 1:06d}" for index in range(count)]
            places = [Place(part / f"JPEGImages/{n}.jpg", split, i, seed, size_px) for i, n in enumerate(names)]
            for place, figures in zip(
                places, draw_all(Place.draw, places, f"{folder.name} {split}", workers), strict=True
            ):
                (part / f"Annotations/{place.file.stem}.xml").write_text(_voc_annotation(place, figures))
            (part / f"ImageSets/Main/{split}.txt").write_text("".join(f"{name}\n" for name in names))


def _coco_document(scenes: dict[Place, list[Figure]]) -> dict[str, Any]:
    """A COCO file (cocodataset.org/#format-data) of these scenes."""
    return {
        "info": {"description": "visionline shapes", "version": "1.0"},
        "licenses": [{"id": 1, "name": "CC0-1.0", "url": "https://creativecommons.org/publicdomain/zero/1.0/"}],
        "images": [_coco_image(place) for place in scenes],
        "annotations": [
            _coco_annotation(place.coco_id, number, figure)
            for place, figures in scenes.items()
            for number, figure in enumerate(figures)
        ],
        "categories": [_coco_category(number, shape) for number, shape in enumerate(SCENE_SHAPES, start=1)],
    }


def _coco_image(place: Place) -> dict[str, Any]:
    height, width = place.size_px
    return {"id": place.coco_id, "file_name": place.file.name, "width": width, "height": height, "license": 1}


def _coco_category(number: int, shape: str) -> dict[str, Any]:
    category = {"id": number, "name": shape, "supercategory": "shape"}
    skeleton = [[a + 1, b + 1] for a, b in ARROW_EDGES]
    return category | ({"keypoints": list(ARROW_JOINTS), "skeleton": skeleton} if shape == "arrow" else {})


def _coco_annotation(image_id: int, number: int, figure: Figure) -> dict[str, Any]:
    x0, y0, x1, y1 = figure.box_xyxy
    annotation = {
        "id": image_id * _COCO_OBJECTS + number,
        "image_id": image_id,
        "category_id": SCENE_SHAPES.index(figure.shape) + 1,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": round(sum(map(polygon_area, figure.polygons)), 2),
        "segmentation": [polygon.ravel().round(2).tolist() for polygon in figure.polygons],
        "iscrowd": 0,
    }
    if not figure.joints:
        return annotation
    labelled = sum(visibility > 0 for _, _, visibility in figure.joints)
    return annotation | {"keypoints": [value for joint in figure.joints for value in joint], "num_keypoints": labelled}


def _voc_annotation(place: Place, figures: list[Figure]) -> str:
    """The XML of one scene (VOC2012 development kit)."""
    height, width = place.size_px
    annotation = Element("annotation")
    _add(annotation, {"folder": "shapes", "filename": place.file.name})
    _add(SubElement(annotation, "source"), {"database": "visionline shapes"})
    _add(SubElement(annotation, "size"), {"width": width, "height": height, "depth": 3})
    _add(annotation, {"segmented": 0})
    for figure in figures:
        flags = {"truncated": int(figure.is_truncated), "occluded": int(figure.is_occluded), "difficult": 0}
        element = SubElement(annotation, "object")
        _add(element, {"name": figure.shape, "pose": "Unspecified", **flags})
        edges = dict(zip(("xmin", "ymin", "xmax", "ymax"), figure.box_xyxy, strict=True))
        _add(SubElement(element, "bndbox"), edges)
    indent(annotation)
    return tostring(annotation, encoding="unicode") + "\n"


def _add(parent: Element, values: Mapping[str, str | int]) -> None:
    for tag, value in values.items():
        SubElement(parent, tag).text = str(value)
