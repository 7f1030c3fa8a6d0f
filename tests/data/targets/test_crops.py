"""A crop draws an image where it says that its points are."""

import math

import numpy as np
import pytest
import torch

from stages.data.targets.crops import Crop, fitted, varied
from stages.data.transforms import CANVAS_GREY
from stages.params.augmentation import KeypointAugmentation


def dots(*points: tuple[int, int], height: int = 120, width: int = 160) -> torch.Tensor:
    """A dark image with one bright 5 x 5 dot in a channel of its own around each point."""
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    for channel, (x, y) in enumerate(points):
        image[channel, y - 2 : y + 3, x - 2 : x + 3] = 255
    return image


def centres(canvas: torch.Tensor) -> np.ndarray:
    """Where the brightest of each channel lies, x and y in pixels."""
    found = []
    for channel in canvas.numpy().astype(float):
        bright = np.where(channel > 150, channel, 0)
        rows, columns = np.nonzero(bright)
        found.append(np.average(np.stack([columns, rows], 1) + 0.5, axis=0, weights=bright[rows, columns]))
    return np.array(found)


POINTS = ((60, 40), (90, 45), (75, 80))
CENTRES = np.array(POINTS) + 0.5


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("canvas_hw", [(128, 96), (64, 64)])
def test_points_follow_the_pixels(seed: int, canvas_hw: tuple[int, int]) -> None:
    augmentation = KeypointAugmentation(flip_horizontal=0.5, flip_vertical=0.5, scale=(0.6, 1.1), rotation_deg=180)
    crop = varied((45, 25, 105, 95), canvas_hw, 1.25, augmentation, np.random.default_rng(seed))
    canvas = torch.empty((3, *canvas_hw), dtype=torch.uint8)
    crop.draw(dots(*POINTS), canvas)
    assert np.abs(centres(canvas) - crop.to_canvas(CENTRES)).max() < 0.7
    np.testing.assert_allclose(crop.to_original(crop.to_canvas(CENTRES)), CENTRES)


def test_a_fitted_box_lies_in_the_middle_as_large_as_it_can() -> None:
    crop = fitted((10, 20, 50, 100), (128, 128), 1.25)
    assert crop.scale == pytest.approx(128 / (80 * 1.25))
    np.testing.assert_allclose(crop.to_canvas(np.array([[30.0, 60], [10, 20]])), [[64, 64], [38.4, 12.8]])
    assert not crop.is_mirrored


def test_only_a_mirror_changes_sides() -> None:
    turned = Crop(np.array([[math.cos(2.0), -math.sin(2.0), 1], [math.sin(2.0), math.cos(2.0), 2]]))
    assert not turned.is_mirrored
    half = varied(
        (0, 0, 9, 9), (9, 9), 1.0, KeypointAugmentation(flip_horizontal=1.0, flip_vertical=1.0), np.random.default_rng()
    )
    assert not half.is_mirrored  # both mirrors are half a turn
    one = varied((0, 0, 9, 9), (9, 9), 1.0, KeypointAugmentation(flip_horizontal=1.0), np.random.default_rng())
    assert one.is_mirrored


def test_grey_where_the_image_has_nothing_and_boxes_without_area() -> None:
    canvas = torch.empty((3, 32, 64), dtype=torch.uint8)
    fitted((0, 0, 10, 10), (32, 64)).draw(torch.full((3, 10, 10), 200, dtype=torch.uint8), canvas)
    assert (canvas[:, :, :14] == CANVAS_GREY).all() and (canvas[:, 4:-4, 20:44] == 200).all()
    fitted((5, 5, 5, 5), (32, 64)).draw(torch.zeros((3, 10, 10), dtype=torch.uint8), canvas)
    assert np.isfinite(fitted((5, 5, 5, 5), (32, 64)).matrix).all()


def test_a_large_image_is_averaged_and_not_sampled() -> None:
    stripes = torch.zeros(3, 640, 640, dtype=torch.uint8)
    stripes[:, :, ::2] = 200
    canvas = torch.empty((3, 64, 64), dtype=torch.uint8)
    fitted((0, 0, 640, 640), (64, 64)).draw(stripes, canvas)
    assert (canvas[:, 2:-2, 2:-2].float() - 100).abs().max() < 5
