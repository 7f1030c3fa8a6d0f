"""One Pascal VOC annotation file (VOC2012 development kit, "Annotation" format)."""

import math
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DTDForbidden, EntitiesForbidden, ExternalReferenceForbidden
from defusedxml.ElementTree import fromstring

from stages.data.records import Box, Rejected

_MAX_BYTES = 16 << 20  # an image with 10,000 objects has 4 MB


@dataclass(frozen=True)
class Annotation:
    """What one file says of its image."""

    path: str
    filename: str | None
    size_px: tuple[int, int] | None
    boxes: tuple[Box, ...]
    defects: tuple[str, ...]


def read_annotation(root: Path, path: str) -> Annotation | Rejected:
    """The annotation at `path`; Rejected when it isn't well-formed, holds entities, or is another kind of XML."""
    try:
        tree = _parse(root / path)
    except (DTDForbidden, EntitiesForbidden, ExternalReferenceForbidden):
        return Rejected(path, "XML with entities is refused")
    except (ParseError, ValueError, LookupError, OSError) as error:
        return Rejected(path, f"not readable as XML: {error}")
    if tree.tag != "annotation":
        return Rejected(path, f"not a Pascal VOC annotation: its root is <{tree.tag}>")
    found = [_read_object(element, number) for number, element in enumerate(tree.findall("object"), start=1)]
    return Annotation(
        path,
        filename=_text(tree, "filename") or None,
        size_px=_read_size(tree),
        boxes=tuple(item for item in found if isinstance(item, Box)),
        defects=tuple(item for item in found if isinstance(item, str)),
    )


def _parse(file: Path) -> Element:
    if file.stat().st_size > _MAX_BYTES:
        raise ValueError(f"larger than {_MAX_BYTES} bytes")
    tree: Element = fromstring(file.read_bytes())
    return tree


def _text(element: Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _number(text: str) -> float:
    """nan for what is no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _read_size(tree: Element) -> tuple[int, int] | None:
    width, height = _number(_text(tree, "size/width")), _number(_text(tree, "size/height"))
    # Some tools write 0 when they did not look.
    return (int(width), int(height)) if 0 < width < math.inf and 0 < height < math.inf else None


def _read_object(element: Element, number: int) -> Box | str:
    """A box, or why there is none: one bad object leaves the others of its image usable."""
    label = _text(element, "name")
    if not label:
        return f"object {number} has no name: dropped"
    texts = [_text(element, f"bndbox/{edge}") for edge in ("xmin", "ymin", "xmax", "ymax")]
    x1, y1, x2, y2 = map(_number, texts)
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        return f"box {label} ({', '.join(texts)}) has an edge that is no number: dropped"
    if x2 <= x1 or y2 <= y1:
        return f"box {label} ({', '.join(texts)}) has no area: dropped"
    flags = {flag: _text(element, flag).lower() in {"1", "true"} for flag in ("difficult", "truncated")}
    return Box(label, (x1, y1, x2, y2), difficult=flags["difficult"], truncated=flags["truncated"])
