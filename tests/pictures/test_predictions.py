"""Boxes and classes drawn on images."""

import numpy as np
import pytest
from PIL import Image

from stages.metrics.detection import Prediction, Target
from stages.pictures.predictions import (
    GAP_PX,
    RIGHT,
    SHADE,
    STRIP_PX,
    WRONG,
    class_colour,
    contact_sheet,
    draw_boxes,
    draw_classifications,
    draw_detections,
    draw_labels,
    draw_scores,
    png,
    with_masks,
)

NAMES = ("cell", "dust")
GREY = np.full((480, 640, 3), 128, np.uint8)


def target(*boxes, labels=()):
    return Target(
        "a", 640, 480, np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, int), np.zeros(len(labels))
    )


def prediction(*boxes, scores=(), labels=()):
    return Prediction(
        "a", np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(labels, int)
    )


def halves(sheet):
    """The two images [480, 640, 3] of a sheet."""
    pixels = np.asarray(sheet)
    top, width = GAP_PX + STRIP_PX, 640
    left, right = GAP_PX, 2 * GAP_PX + width
    return pixels[top : top + 480, left : left + width], pixels[top : top + 480, right : right + width]


def test_masks_are_translucent_with_an_outline_and_a_colour_of_their_own():
    mask = np.zeros((240, 320), bool)  # half the image's size
    mask[50:100, 100:200] = True
    both = [mask, np.roll(mask, 100, 0)]
    truth = target([200, 100, 400, 200], [200, 300, 400, 400], labels=[0, 0])
    found = prediction([200, 300, 400, 400], [200, 100, 400, 200], scores=[0.9, 0.2], labels=[0, 0])
    left, right = halves(draw_detections(GREY, truth, found, NAMES, masks=(both, both[::-1])))
    for pixels, y, colour in (
        (left, 150, class_colour(0)),
        (left, 350, class_colour(1)),
        (right, 350, class_colour(0)),
    ):
        blend = [round(0.6 * 128 + 0.4 * c) for c in colour]
        assert np.abs(pixels[y, 300].astype(int) - blend).max() <= 1
    assert tuple(right[150, 300]) == (128, 128, 128)  # under the threshold
    clear = halves(draw_detections(GREY, target(labels=[]), prediction(), NAMES, masks=([], [])))[0]
    assert (clear == 128).all()
    outlined = np.asarray(with_masks(Image.fromarray(GREY), [mask], [(255, 0, 0)]))
    assert tuple(outlined[100, 300]) == tuple(outlined[150, 200]) == (255, 0, 0)
    assert tuple(outlined[99, 300]) == (128, 128, 128)


def test_edges_lie_where_the_box_says():
    sheet = draw_detections(
        GREY,
        target([100, 200, 300, 400], labels=[0]),
        prediction([110, 210, 310, 410], [5, 100, 90, 190], scores=[0.9, 0.3], labels=[1, 0]),
        NAMES,
    )
    assert sheet.size == (2 * 640 + 3 * GAP_PX, 480 + STRIP_PX + 2 * GAP_PX)
    truth, found = halves(sheet)
    for pixels, (x1, y1, x2, y2), label in ((truth, (100, 200, 300, 400), 0), (found, (110, 210, 310, 410), 1)):
        for x, y in (((x1 + x2) // 2, y1), ((x1 + x2) // 2, y2), (x1, (y1 + y2) // 2), (x2, (y1 + y2) // 2)):
            assert tuple(pixels[y, x]) == class_colour(label)
        assert tuple(pixels[(y1 + y2) // 2, (x1 + x2) // 2]) == (128, 128, 128)
    # The box with a score of 0.3 is under the threshold.
    assert tuple(found[150, 5]) == (128, 128, 128)


def test_boxes_scale_with_the_image():
    small = np.full((240, 320, 3), 128, np.uint8)
    sheet = draw_detections(small, target([50, 100, 150, 200], labels=[0]), prediction(), NAMES)
    truth, found = halves(sheet)
    assert tuple(truth[300, 100]) == tuple(truth[200, 200]) == class_colour(0)
    assert (found == 128).all()


def test_boxes_that_reach_outside_are_drawn_at_the_border():
    sheet = draw_detections(
        GREY, target([-50, -50, 900, 900], [700, 500, 800, 600], labels=[0, 1]), prediction(), NAMES
    )
    truth, _ = halves(sheet)
    assert tuple(truth[240, 0]) == tuple(truth[240, 639]) == tuple(truth[479, 320]) == class_colour(0)


def test_detections_have_the_same_bytes_again():
    made = prediction([10, 10, 50, 50], scores=[0.7], labels=[0])
    first, second = (png(draw_detections(GREY, target([9, 9, 50, 50], labels=[0]), made, NAMES)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(("truth", "frame"), [(2, RIGHT), (0, WRONG)])
def test_the_frame_says_right_or_wrong(truth, frame):
    image = draw_classifications(GREY, truth, np.array([0.2, 0.1, 0.7]), ["кошка", "dog", "a very long name " * 9])
    pixels = np.asarray(image)
    assert image.size == (224 + 12, 224 + 12 + 4 * STRIP_PX)
    assert (pixels[0] == frame).all()
    assert (pixels[:, -1] == frame).all()
    assert tuple(pixels[118, 118]) == (128, 128, 128)


@pytest.mark.parametrize(("truth", "frame"), [([0, 2], RIGHT), ([2], WRONG), ([0, 1, 2], WRONG), ([], WRONG)])
def test_with_several_labels_the_frame_is_green_for_exactly_the_true_ones(truth, frame):
    image = draw_labels(GREY, truth, np.array([0.6, 0.1, 0.7]), ["a", "b", "c"], 0.5)
    assert image.size == draw_classifications(GREY, 0, np.array([0.6, 0.1, 0.7]), ["a", "b", "c"]).size
    assert (np.asarray(image)[0] == frame).all()


def test_fewer_than_three_classes():
    assert draw_classifications(GREY, 0, np.array([0.4, 0.6]), NAMES).width == 236


def test_contact_sheet_places_images_in_rows():
    tiles = [Image.new("RGB", (40, 30), (value, 0, 0)) for value in (10, 20, 30)]
    sheet = np.asarray(contact_sheet(tiles, ["a", "b", "c"], columns=2))
    assert sheet.shape == (2 * (30 + STRIP_PX + GAP_PX) + GAP_PX, 2 * (40 + GAP_PX) + GAP_PX, 3)
    x, y = (GAP_PX + 20, 2 * GAP_PX + 60), (GAP_PX + STRIP_PX + 15, 2 * GAP_PX + 2 * STRIP_PX + 45)
    assert [sheet[y[0], x[0], 0], sheet[y[0], x[1], 0], sheet[y[1], x[0], 0]] == [10, 20, 30]


def test_an_empty_contact_sheet_is_an_error():
    with pytest.raises(ValueError, match="at least one image"):
        contact_sheet([], [])


def test_neighbouring_classes_have_different_colours():
    colours = np.array([class_colour(label) for label in range(20)], int)
    distances = np.abs(colours[:, None] - colours[None]).sum(axis=2) + 1000 * np.eye(20, dtype=int)
    assert distances.min() > 40
    assert np.diagonal(distances, 1).min() > 150


def test_answered_boxes_lie_where_they_say_with_the_colour_of_their_class():
    boxes = [{"label": "dust", "score": 0.9, "box_xyxy": [100, 200, 300, 400]}]
    pixels = np.asarray(draw_boxes(np.repeat(np.repeat(GREY, 2, 0), 2, 1), boxes, NAMES))
    assert pixels.shape == (480, 640, 3)
    for y, x in ((150, 50), (200, 80), (120, 150)):  # left, bottom and right edge at half the size
        assert tuple(pixels[y, x]) == class_colour(1)
    assert tuple(pixels[150, 100]) == (128, 128, 128)
    assert np.array_equal(np.asarray(draw_boxes(GREY, [], NAMES)), GREY)


def test_scores_stand_below_the_image_highest_first_over_bars():
    sheet = np.asarray(draw_scores(GREY, {"a": 0.1, "b": 0.8, "c": 0.06, "d": 0.04}))
    assert sheet.shape == (480 + 3 * STRIP_PX, 640, 3)
    assert np.array_equal(sheet[:480], GREY)
    shaded = [(sheet[480 + STRIP_PX * row + 2] == SHADE).all(axis=1).mean() for row in range(3)]
    assert shaded == pytest.approx([0.8, 0.1, 0.06], abs=0.01)
