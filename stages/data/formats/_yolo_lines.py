"""The lines of a YOLO label file: `class cx cy w h`, `class x1 y1 x2 y2 ...` or `class cx cy w h` and joints.

Numbers are shares of the image's width and height. They are read as the decimals that they are and multiplied before
they are rounded once: "0.041 0.078" of 500 pixels are the edges 1 and 40 and not their neighbours.
"""

import decimal
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from stages.data.records import Box

_EXACT = decimal.Context(prec=120, traps=[decimal.InvalidOperation])
_LEAST, _MOST = Decimal(-1), Decimal(2)  # shares beyond these are no shares, but pixels
_MOST_CLASSES = 1_000_000
_LONGEST = 60  # characters of a number


@dataclass(frozen=True)
class Columns:
    """What the numbers of a line mean in one dataset."""

    names: dict[int, str]  # class number -> label
    num_joints: int = 0
    joint_numbers: int = 3  # of a joint: x, y and perhaps visibility


def read_lines(text: str, columns: Columns, size_px: tuple[int, int]) -> tuple[list[Box], list[str]]:
    """Boxes in pixels of an image of this width and height, and what is wrong with lines, each behind its number."""
    boxes: list[Box] = []
    defects: list[str] = []
    first_at: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        try:
            boxes.append(_read(words, columns, size_px))
        except ValueError as error:
            defects.append(f"line {number}: {error}: dropped")
            continue
        if (before := first_at.setdefault(" ".join(words), number)) != number:
            defects.append(f"line {number} repeats line {before}: kept")
    return boxes, defects


def _read(words: Sequence[str], columns: Columns, size_px: tuple[int, int]) -> Box:
    """One object; ValueError when the line can't be one."""
    label = _label(words[0], columns.names)
    values = [_share(word) for word in words[1:]]
    num_with_joints = 4 + columns.num_joints * columns.joint_numbers
    if len(values) == 4:
        return Box(label, _box(values, size_px))
    if columns.num_joints and len(values) == num_with_joints:
        return Box(label, _box(values[:4], size_px), keypoints=_joints(values[4:], columns.joint_numbers, size_px))
    if columns.num_joints:
        raise ValueError(f"{len(words)} columns, must be 5 or {1 + num_with_joints} for {columns.num_joints} joints")
    if len(values) == 5:
        raise ValueError("6 columns: a score behind the box is an answer of a model and no label")
    if len(values) < 6 or len(values) % 2:
        raise ValueError(f"{len(words)} columns, must be 5, or 1 and x y of three or more points")
    polygons = tuple(_scaled(part, size_px) for part in _rings(values))
    return Box(label, _extent(polygons), polygons=polygons)


def _label(word: str, names: dict[int, str]) -> str:
    try:
        value = Decimal(word)  # some tools write 3.0
        number = int(value) if 0 <= value < _MOST_CLASSES and value == int(value) else -1
    except ArithmeticError:
        raise ValueError(f"class {word[:_LONGEST]!r} is no number") from None
    label = names.get(number)
    if label is None:
        raise ValueError(f"class {word[:_LONGEST]} is not among the {len(names)} names")
    return label


def _share(word: str) -> Decimal:
    try:
        value = Decimal(word)
    except ArithmeticError:
        raise ValueError(f"{word[:_LONGEST]!r} is no number") from None
    if not value.is_finite() or len(word) > _LONGEST:
        raise ValueError(f"{word[:_LONGEST]!r} is no finite number")
    if not _LEAST <= value <= _MOST:
        raise ValueError(f"{word} is no share of the image's width or height: are these pixels?")
    return value


def _box(values: Sequence[Decimal], size_px: tuple[int, int]) -> tuple[float, float, float, float]:
    with decimal.localcontext(_EXACT):
        (cx, cy, width, height), (across, down) = values, size_px
        if width <= 0 or height <= 0:
            raise ValueError(f"box {' '.join(map(str, values))} has no area")
        x1, x2 = (2 * cx - width) * across / 2, (2 * cx + width) * across / 2
        y1, y2 = (2 * cy - height) * down / 2, (2 * cy + height) * down / 2
    return float(x1), float(y1), float(x2), float(y2)


def _scaled(values: Sequence[Decimal], size_px: tuple[int, int]) -> tuple[float, ...]:
    """x, y, x, y, ... in pixels."""
    with decimal.localcontext(_EXACT):
        return tuple(float(value * size_px[i % 2]) for i, value in enumerate(values))


def _joints(values: Sequence[Decimal], joint_numbers: int, size_px: tuple[int, int]) -> tuple[float, ...]:
    """x, y, visibility of each; without visibility a joint at 0 0 is one that nobody labelled."""
    found: list[float] = []
    for start in range(0, len(values), joint_numbers):
        x, y, *seen = values[start : start + joint_numbers]
        found += [*_scaled((x, y), size_px), float(seen[0]) if seen else 2.0 * bool(x or y)]
    return tuple(found)


def _rings(values: Sequence[Decimal]) -> list[Sequence[Decimal]]:
    """The parts of an outline: more than one where the line is made of rings that each end where they began."""
    points = list(zip(values[::2], values[1::2], strict=True))
    rings, start = [], 0
    while start < len(points):
        # From the third point on: some tools write the first one twice.
        end = next((i for i in range(start + 3, len(points)) if points[i] == points[start]), None)
        if end is None:
            return [values]
        rings.append(values[2 * start : 2 * end])
        start = end + 1
    return rings if len(rings) > 1 else [values]


def _extent(polygons: Sequence[Sequence[float]]) -> tuple[float, float, float, float]:
    xs = [x for part in polygons for x in part[::2]]
    ys = [y for part in polygons for y in part[1::2]]
    if max(xs) <= min(xs) or max(ys) <= min(ys):
        raise ValueError("the outline has no area")
    return min(xs), min(ys), max(xs), max(ys)
