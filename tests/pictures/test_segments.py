"""Class maps drawn on their images."""

import io

import numpy as np
import pytest
from PIL import Image

from stages.pictures.predictions import class_colour
from stages.pictures.segments import NOTHING, draw_classes, draw_segmentation, index_png, overlaid

NAMES = ("sky", "road", "a class with a very long name indeed")
GREY = np.full((40, 60, 3), 100, np.uint8)


def halves():
    classes = np.zeros((40, 60), np.uint8)
    classes[20:] = 1
    return classes


def test_an_index_png_gives_back_the_classes():
    classes = halves()
    classes[0, :5] = NOTHING
    image = Image.open(io.BytesIO(index_png(classes)))
    assert image.mode == "P"
    np.testing.assert_array_equal(np.asarray(image), classes)
    shown = np.asarray(image.convert("RGB"))
    assert tuple(shown[39, 0]) == class_colour(1) and tuple(shown[0, 0]) == (0, 0, 0)


def test_each_class_has_its_colour_and_what_is_not_labelled_is_grey():
    image = np.zeros((40, 60, 3), np.uint8)
    image[..., 0] = 90
    classes = halves()
    classes[:, 30:] = NOTHING
    drawn = np.asarray(overlaid(image, classes, 60))
    expected = [np.array([90, 0, 0]) + (np.array(class_colour(k)) - [90, 0, 0]) * 0.6 for k in (0, 1)]
    assert np.abs(drawn[5, 5] - expected[0]).max() <= 1 and np.abs(drawn[35, 5] - expected[1]).max() <= 1
    assert len(set(drawn[5, 50].tolist())) == 1


def test_truth_and_prediction_stand_side_by_side_over_a_legend():
    truth = halves()
    truth[:, :30] = NOTHING
    predicted = np.full((40, 60), 1, np.uint8)
    picture = np.asarray(draw_segmentation(GREY, truth, predicted, NAMES, 240))
    assert picture.shape[1] == 2 * 240 + 3 * 8 and picture.shape[0] > 160 + 22
    legend = picture[-22:].reshape(-1, 3)
    for k, is_shown in ((0, True), (1, True), (2, False)):
        assert (legend == class_colour(k)).all(1).any() == is_shown
    assert draw_classes(GREY, np.full((40, 60), NOTHING, np.uint8), NAMES, 240).size == (240, 160)


@pytest.mark.parametrize("count", [3, 120])
def test_a_long_legend_takes_more_lines(count):
    classes = np.arange(2400).reshape(40, 60) % count
    drawn = draw_classes(GREY, classes.astype(np.uint8), [f"class {i}" for i in range(count)], 240)
    assert drawn.width == 240 and (drawn.height > 160 + 20 * 22) == (count > 100)
