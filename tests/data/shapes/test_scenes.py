"""What scenes say of themselves, against a painter of our own that fills polygons pixel by pixel."""

from collections import Counter

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from stages.data.shapes.canvas import Canvas, Figure
from stages.data.shapes.outlines import ARROW_JOINTS, OUTLINES
from stages.data.shapes.scenes import PRETRAINING_KINDS, SCENE_SHAPES, UNSEEN_SHAPES, portrait, scene
from stages.data.shapes.sprites import polygon_area
from stages.data.shapes.studio import generator
from stages.data.shapes.textures import OBJECT_TEXTURES

SIZE_PX = (120, 160)


@pytest.fixture(scope="module")
def canvases() -> list[Canvas]:
    return [scene(generator(0, "test", number), SIZE_PX) for number in range(60)]


@pytest.fixture(scope="module")
def pairs(canvases) -> list[tuple[Figure, np.ndarray, float]]:
    """Every figure with its visible mask, and the share of it that is visible."""
    return [pair for canvas in canvases for pair in zip(canvas.figures(), *_painted(canvas), strict=True)]


def _inside(vertices: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre is in the polygon: an odd number of edges lies to the right (even-odd rule)."""
    y, x = np.indices(size_px) + 0.5
    inside = np.zeros(size_px, bool)
    for (x0, y0), (x1, y1) in zip(vertices, np.roll(vertices, -1, axis=0), strict=True):
        if y0 != y1:
            inside ^= ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return inside


def _painted(canvas: Canvas) -> tuple[list[np.ndarray], list[float]]:
    """Visible masks of the labelled objects when each object in turn is painted over those before it."""
    owner = np.full(canvas.size_px, -1)
    for number, laid in enumerate(canvas.laid):
        owner[_inside(laid.sprite.vertices_px, canvas.size_px)] = number
    labelled = [(number, laid) for number, laid in enumerate(canvas.laid) if laid.shape]
    masks = [owner == number for number, _ in labelled]
    return masks, [
        m.sum() / polygon_area(laid.sprite.vertices_px) for m, (_, laid) in zip(masks, labelled, strict=True)
    ]


def test_boxes_bound_what_is_visible(pairs):
    """To one pixel, but for slivers thinner than that, which a painter without half-covered pixels sees otherwise."""
    errors_px = []
    for figure, mask, _ in pairs:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        expected = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        errors_px.append(np.abs(np.subtract(figure.box_xyxy, expected)).max())
    assert np.mean(np.array(errors_px) <= 1) > 0.98 and max(errors_px) < 12


def test_boxes_lie_inside_the_picture(pairs):
    for figure, _, _ in pairs:
        x0, y0, x1, y1 = figure.box_xyxy
        assert 0 <= x0 < x1 <= SIZE_PX[1] and 0 <= y0 < y1 <= SIZE_PX[0]


def test_polygons_agree_with_boxes_and_masks(pairs):
    for figure, mask, _ in pairs:
        corners = np.concatenate(figure.polygons)
        assert np.abs(np.array([*corners.min(0), *corners.max(0)]) - figure.box_xyxy).max() <= 0.5
        area = sum(map(polygon_area, figure.polygons))
        assert area == pytest.approx(mask.sum(), rel=0.1, abs=8)
        runs = coco_mask.frPyObjects([polygon.ravel().tolist() for polygon in figure.polygons], *SIZE_PX)
        filled = coco_mask.decode(coco_mask.merge(runs)).astype(bool)
        assert (filled & mask).sum() / (filled | mask).sum() > 0.75  # pycocotools fills up to a pixel too much


def test_every_labelled_object_can_be_seen(pairs):
    assert min(share for _, _, share in pairs) >= 0.3


def test_flags_tell_of_borders_and_of_others(pairs):
    for figure, _, share in pairs:
        if share < 0.9:
            assert figure.is_truncated or figure.is_occluded
        if share > 0.999:
            assert not figure.is_truncated or not figure.is_occluded
    assert any(figure.is_truncated for figure, _, _ in pairs) and any(figure.is_occluded for figure, _, _ in pairs)


def test_only_arrows_have_joints(pairs):
    for figure, _, _ in pairs:
        assert len(figure.joints) == (len(ARROW_JOINTS) if figure.shape == "arrow" else 0)


def test_joints_lie_inside_the_picture_or_are_not_labelled(pairs):
    joints = [joint for figure, _, _ in pairs for joint in figure.joints]
    assert {visibility for _, _, visibility in joints} == {0, 1, 2}
    for x, y, visibility in joints:
        assert (x, y) == (0, 0) if visibility == 0 else 0 <= x < SIZE_PX[1] and 0 <= y < SIZE_PX[0]


def test_seen_joints_touch_the_visible_arrow_and_hidden_ones_do_not(pairs):
    for figure, mask, _ in pairs:
        seen = np.argwhere(mask)[:, ::-1] + 0.5
        for x, y, visibility in figure.joints:
            distance_px = np.hypot(*(seen - (x, y)).T).min()
            if visibility == 2:
                assert distance_px < 2.5
            elif visibility == 1:
                assert distance_px > 0.3


def test_sizes_vary(canvases):
    radii = [laid.sprite.pose.radius_px for canvas in canvases for laid in canvas.laid if laid.shape]
    assert max(radii) / min(radii) > 2.5


def test_classes_are_balanced(canvases):
    counts = Counter(figure.shape for canvas in canvases for figure in canvas.figures())
    assert sorted(counts) == sorted(SCENE_SHAPES)
    assert max(counts.values()) < 2 * min(counts.values())
    assert 3 < counts.total() / len(canvases) < 6


def test_pictures_repeat_and_differ():
    first, again, other = (
        np.asarray(scene(generator(0, number), SIZE_PX).photograph()) for number in ("one", "one", "two")
    )
    assert first.shape == (*SIZE_PX, 3) and first.dtype == np.uint8
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize("shape", sorted(OUTLINES))
@pytest.mark.parametrize("size_px", [(32, 32), (64, 96)])
def test_the_object_of_a_portrait_dominates_it(shape, size_px):
    canvas = portrait(generator(0, shape), size_px, shape)
    (figure,) = canvas.figures()
    x0, y0, x1, y1 = figure.box_xyxy
    assert figure.shape == shape and max(x1 - x0, y1 - y0) > 0.35 * min(size_px)
    assert canvas.photograph().size == size_px[::-1]


def test_pretraining_tells_neither_by_shape_nor_by_texture_alone():
    shapes, textures = (Counter(names) for names in zip(*PRETRAINING_KINDS, strict=True))
    assert len(set(PRETRAINING_KINDS)) == 12 and set(shapes.values()) == {2} and set(textures.values()) == {3}
    assert not set(shapes) & set(UNSEEN_SHAPES)
    assert set(textures) < set(OBJECT_TEXTURES) and {*shapes, *UNSEEN_SHAPES} <= set(OUTLINES)
