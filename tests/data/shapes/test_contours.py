"""Polygons around masks, against pycocotools and hand-computed areas."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from stages.data.shapes.contours import visible_polygons
from stages.data.shapes.sprites import polygon_area


def _filled(polygons: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """The polygons as COCO's own tool fills them."""
    runs = coco_mask.frPyObjects([polygon.ravel().tolist() for polygon in polygons], *shape)
    return coco_mask.decode(coco_mask.merge(runs)).astype(bool)


def _disc(radius: float, shape: tuple[int, int] = (60, 70)) -> np.ndarray:
    y, x = np.indices(shape) + 0.5
    return np.clip(radius - np.hypot(x - 35, y - 30) + 0.5, 0, 1).astype(np.float32)


def test_edges_of_a_rectangle_lie_between_pixels():
    mask = np.zeros((10, 12), np.float32)
    mask[2:6, 3:11] = 1
    (polygon,) = visible_polygons(mask)
    assert polygon.min(0).tolist() == [3, 2] and polygon.max(0).tolist() == [11, 6]
    assert polygon_area(polygon) == pytest.approx(32, abs=0.6)  # less its four bevelled corners


def test_an_object_at_the_border_reaches_it():
    (polygon,) = visible_polygons(np.ones((7, 9), np.float32))
    assert polygon.min(0).tolist() == [0, 0] and polygon.max(0).tolist() == [9, 7]


def test_area_of_a_disc():
    (polygon,) = visible_polygons(_disc(20))
    assert polygon_area(polygon) == pytest.approx(np.pi * 20**2, rel=0.01)
    assert len(polygon) < 60


@pytest.mark.parametrize("holes", [1, 2])
def test_holes_stay_out(holes):
    mask = _disc(25)
    mask[20:40, 38:46] = 0
    if holes == 2:
        mask[25:35, 20:30] = 0
    (polygon,) = visible_polygons(mask)
    assert polygon_area(polygon) == pytest.approx(mask.sum(), rel=0.01)
    difference = _filled([polygon], mask.shape) != (mask > 0.5)
    assert difference.sum() < 0.04 * mask.sum()


def test_parts_are_polygons_of_their_own():
    mask = _disc(20)
    mask[:, 33:37] = 0
    mask[5, 60] = 0.6  # a speck
    polygons = visible_polygons(mask)
    assert len(polygons) == 2
    assert sum(map(polygon_area, polygons)) == pytest.approx(mask.sum(), rel=0.02)


def test_nothing_to_see():
    assert visible_polygons(np.zeros((5, 5), np.float32)) == []
