"""YOLO: images/SPLIT, labels/SPLIT with a text file an image, data.yaml.

All lines of an export are of one kind, as the tools of that family ask for: with joints where the dataset has some,
else outlines where it has some, else boxes. In an export of outlines a box becomes a rectangle; an outline of several
parts is written as rings that each end where they began. Shares have the fewest digits that give the pixels back.
"""

import decimal
import io
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from ruamel.yaml import YAML

from stages.data.dataset import Description
from stages.data.index import Row
from stages.data.splits import SPLITS
from stages.data.writers._samples import Sample

KINDS, HOLDS = ("detection",), "objects"

_EXACT = decimal.Context(prec=50)
_DIGITS = (6, 10, 17, 25, 40)  # behind the point, until the pixels come back to the last bit


def place(row: Row) -> str | None:
    """A folder a split, below images/."""
    return f"images/{row['split']}"


def keeps(thing: Row) -> bool:
    """No crowd: as a line it would be one object."""
    return not thing["is_crowd"]


def write(folder: Path, samples: Iterable[Sample], description: Description) -> None:
    """data.yaml, and a text file for each image, empty where it has no object."""
    numbers = {label: number for number, label in enumerate(description.classes)}
    line_of = _line_of(samples, description)
    splits = set()
    for sample in samples:
        path = folder / PurePosixPath("labels", *PurePosixPath(sample.path).parts[1:]).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        size_px = (sample.row["width"], sample.row["height"])
        things = [thing for thing in sample.row["objects"] or [] if keeps(thing)]
        lines = [f"{numbers[thing['label']]} {' '.join(line_of(thing, size_px))}\n" for thing in things]
        path.write_text("".join(lines), encoding="ascii")
        splits.add(sample.row["split"])
    (folder / "data.yaml").write_bytes(_config(description, splits, has_keypoints=isinstance(line_of, partial)))


def _line_of(samples: Iterable[Sample], description: Description) -> Callable[[Row, tuple[int, int]], Iterator[str]]:
    """What the lines hold: the most that an object of the dataset has."""
    has_polygons = False
    for sample in samples:
        for thing in filter(keeps, sample.row["objects"] or []):
            if description.skeleton and any(thing["keypoints"]):
                return partial(_keypoints, num_joints=len(description.skeleton))
            has_polygons |= bool(thing["polygons"])
    return _polygons if has_polygons else _box


def _box(thing: Row, size_px: tuple[int, int]) -> Iterator[str]:
    """cx, cy, w, h."""
    x1, y1, x2, y2 = thing["bbox_xyxy"]
    (cx, width), (cy, height) = _span(x1, x2, size_px[0]), _span(y1, y2, size_px[1])
    yield from (cx, cy, width, height)


def _polygons(thing: Row, size_px: tuple[int, int]) -> Iterator[str]:
    """x, y of each point; several parts one after the other, each closed."""
    x1, y1, x2, y2 = thing["bbox_xyxy"]
    parts = thing["polygons"] or [[x1, y1, x2, y1, x2, y2, x1, y2]]
    for part in parts:
        is_open = part[:2] != part[-2:]
        points = [*part, *part[:2]] if len(parts) > 1 and is_open else part
        yield from (_share(value, size_px[i % 2]) for i, value in enumerate(points))


def _keypoints(thing: Row, size_px: tuple[int, int], num_joints: int) -> Iterator[str]:
    """The box, then x, y, visibility of each joint; zeros where the object has none."""
    yield from _box(thing, size_px)
    values = thing["keypoints"] or [0.0] * 3 * num_joints
    for i, value in enumerate(values):
        yield f"{value:g}" if i % 3 == 2 else _share(value, size_px[i % 3])


def _span(start: float, end: float, size_px: int) -> tuple[str, str]:
    """Centre and extent of an interval in shares, out of the shares of its edges, which lose no digit by that."""
    with decimal.localcontext(_EXACT):
        low, high = Decimal(_share(start, size_px)), Decimal(_share(end, size_px))
        return _plain((low + high) / 2), _plain(high - low)


def _share(value: float, size_px: int) -> str:
    with decimal.localcontext(_EXACT):
        share = Decimal(value) / size_px
        return _plain(next((s for d in _DIGITS if float((s := round(share, d)) * size_px) == value), round(share, 40)))


def _plain(value: Decimal) -> str:
    """Without exponent and trailing zeros."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _config(description: Description, splits: set[str], has_keypoints: bool) -> bytes:
    """data.yaml; its paths count from its own folder."""
    said: dict[str, Any] = {"path": "."}
    said |= {split: f"images/{split}" for split in SPLITS if split in splits}
    if has_keypoints:
        joints = list(description.skeleton)
        said |= {"kpt_shape": [len(joints), 3], "kpt_names": {0: joints}}
    said |= {"license": description.licence} if description.licence else {}
    said |= {"url": description.origin} if description.origin else {}
    said["nc"] = len(description.classes)
    said["names"] = dict(enumerate(description.classes))
    yaml = YAML(typ="safe")
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    text = io.BytesIO()
    yaml.dump(said, text)
    return text.getvalue()
