"""Pascal VOC: Annotations/NAME.xml, JPEGImages, ImageSets/Main (VOC2012 development kit)."""

from collections.abc import Iterable
from pathlib import Path
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

from stages.data.dataset import Description
from stages.data.index import Row
from stages.data.writers._provenance import write_licence
from stages.data.writers._samples import Sample

KINDS, HOLDS = ("detection",), "boxes"

_IMAGES, _ANNOTATIONS, _LISTS = "JPEGImages", "Annotations", "ImageSets/Main"
_DEPTHS = {"1": 1, "L": 1, "I;16": 1, "I": 1, "F": 1}  # of Pillow's modes; the others are shown as RGB


def place(row: Row) -> str | None:
    """All images lie in one folder."""
    return _IMAGES


def keeps(thing: Row) -> bool:
    """Every object; a crowd becomes a difficult one, which VOC's evaluation leaves out likewise."""
    return True


def write(folder: Path, samples: Iterable[Sample], description: Description) -> None:
    """An XML file an image, a list a split."""
    (folder / _ANNOTATIONS).mkdir()
    (folder / _LISTS).mkdir(parents=True)
    lists: dict[str, list[str]] = {}
    for sample in samples:
        tree = ElementTree(_annotation(sample))
        indent(tree, "\t")
        tree.write(folder / _ANNOTATIONS / f"{sample.name}.xml", encoding="utf-8")
        lists.setdefault(sample.row["split"], []).append(sample.name)
    for split, names in lists.items():
        (folder / _LISTS / f"{split}.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf8")
    write_licence(folder, description)


def _annotation(sample: Sample) -> Element:
    root = Element("annotation")
    _texts(root, folder=_IMAGES, filename=Path(sample.path).name)
    size = SubElement(root, "size")
    row = sample.row
    _texts(size, width=row["width"], height=row["height"], depth=_DEPTHS.get(row["mode"], 3))
    _texts(root, segmented=0)
    for thing in row["objects"] or []:
        _object(SubElement(root, "object"), thing)
    return root


def _object(element: Element, thing: Row) -> None:
    is_difficult = thing["difficult"] or thing["is_crowd"]
    flags = {"truncated": int(thing["truncated"]), "difficult": int(is_difficult)}
    _texts(element, name=_legal(thing["label"]), pose="Unspecified", **flags)
    edges = dict(zip(("xmin", "ymin", "xmax", "ymax"), map(_number, thing["bbox_xyxy"]), strict=True))
    _texts(SubElement(element, "bndbox"), **edges)


def _texts(element: Element, **texts: object) -> None:
    for tag, text in texts.items():
        SubElement(element, tag).text = str(text)


def _legal(label: str) -> str:
    """ValueError for a character that XML has no way to write."""
    wrong = [c for c in label if (c < " " and c not in "\t\n\r") or c in "\ufffe\uffff"]
    if wrong:
        raise ValueError(f"class {label!r} has the character {wrong[0]!r}, which XML can't hold: use coco or yolo")
    return label


def _number(value: float) -> str:
    """Whole numbers as VOC has them, others with all their digits."""
    return str(int(value)) if value.is_integer() else repr(value)
