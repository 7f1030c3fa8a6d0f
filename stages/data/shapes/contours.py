"""The visible part of an object as polygons."""

import numpy as np
from contourpy import FillType, contour_generator

from stages.data.shapes.outlines import Points
from stages.data.shapes.sprites import polygon_area
from stages.data.shapes.textures import Field

MIN_PART_PX2 = 2.0
TOLERANCE_PX = 0.2


def visible_polygons(visible: Field) -> list[Points]:
    """Outlines of the parts where an (H, W) field is over one half, (N, 2) pixels with continuous edges.

    A hole is joined to its outline by a slit, so that a part stays one polygon: filling it by the
    even-odd rule, as COCO's tools do, leaves the hole out, and its shoelace area is right.
    """
    generator = contour_generator(z=np.pad(visible, 1), fill_type=FillType.OuterOffset)
    parts = []
    for points, offsets in zip(*generator.filled(0.5, np.inf), strict=True):
        # A pixel's centre lies at half a pixel; padding moved everything by one.
        outline, *holes = (_simplified(ring) for ring in np.split(np.float64(points) - 0.5, offsets[1:-1]))
        slits = [ring for hole in holes for ring in (hole, outline[:1])]
        parts.append(np.round(np.concatenate([outline, *slits])[:-1], 2))
    return [part for part in parts if polygon_area(part) >= MIN_PART_PX2]


def _simplified(line: Points) -> Points:
    """The line with every point dropped that lies closer than the tolerance to what remains (Douglas-Peucker 1973)."""
    keep = np.zeros(len(line), bool)
    keep[[0, -1]] = True
    spans = [(0, len(line) - 1)]
    while spans:
        first, last = spans.pop()
        distances = _distances(line[first + 1 : last], line[first], line[last])
        if distances.size and distances.max() > TOLERANCE_PX:
            middle = first + 1 + int(distances.argmax())
            keep[middle] = True
            spans += [(first, middle), (middle, last)]
    return line[keep]


def _distances(points: Points, start: Points, end: Points) -> Points:
    """Distances of points from the straight line through start and end, or from the point that both are."""
    along = end - start
    length = float(np.hypot(*along))
    x, y = (points - start).T
    return np.hypot(x, y) if length == 0 else np.abs(along[0] * y - along[1] * x) / length
