"""Joints and bones drawn on images."""

import numpy as np
import pytest

from stages.metrics.keypoints import Prediction, Target
from stages.pictures.predictions import GAP_PX, STRIP_PX, class_colour
from stages.pictures.skeletons import OCCLUDED, SEEN, draw_keypoints, draw_persons

GREY = np.full((240, 320, 3), 128, np.uint8)
EDGES = ((0, 1), (1, 2))
PERSON = np.array([[40, 40, 2], [200, 40, 1], [200, 200, 0]], np.float32)


def target(*persons):
    keypoints = np.array(persons, np.float32).reshape(-1, 3, 3)
    count = len(keypoints)
    return Target("a", 320, 240, np.zeros((count, 4)), np.zeros(count, int), np.zeros(count, bool), keypoints=keypoints)


def found(*persons, scores):
    keypoints = np.array(persons, np.float32).reshape(-1, 3, 3)
    return Prediction("a", np.zeros((len(keypoints), 4)), np.array(scores), np.zeros(len(keypoints), int), keypoints)


def pixel(drawn, x, y, right=False):
    """The colour that a place of the image has in its left or right half, drawn at the image's own size."""
    offset = GAP_PX + (320 + GAP_PX if right else 0)
    return drawn.getpixel((offset + x, GAP_PX + STRIP_PX + y))


def test_truth_is_left_and_what_was_found_right():
    sure = np.array([[40, 80, 0.9], [200, 80, 0.8], [200, 200, 0.05]])
    prediction = found(sure, sure + np.array([0, 40, 0]), scores=[0.9, 0.3])
    drawn = draw_keypoints(GREY, target(PERSON), prediction, ("person",), EDGES, long_side_px=320)
    assert pixel(drawn, 120, 40) == class_colour(0)  # a bone
    assert (pixel(drawn, 40, 40), pixel(drawn, 200, 40)) == (SEEN, OCCLUDED)
    assert pixel(drawn, 200, 120) == (128, 128, 128)  # the joint at its end is not labelled
    assert pixel(drawn, 120, 80, right=True) == class_colour(0) and pixel(drawn, 40, 80, right=True) == SEEN
    assert pixel(drawn, 120, 120, right=True) == (128, 128, 128)  # not sure enough
    assert pixel(drawn, 200, 150, right=True) == (128, 128, 128)  # nor is this joint


def test_nobody_anywhere():
    drawn = draw_keypoints(GREY, target(), found(scores=[]), ("person",), EDGES, long_side_px=320)
    assert pixel(drawn, 120, 40) == pixel(drawn, 120, 40, right=True) == (128, 128, 128)


@pytest.mark.parametrize(
    "joints", [{"a": {"x": 40, "y": 40, "score": 0.9}, "b": {"x": 200, "y": 40, "score": 0.9}}, {}]
)
def test_answers_with_joints_by_name(joints):
    box = {"label": "person", "score": 0.9, "box_xyxy": [20, 20, 220, 220], "joints": joints}
    drawn = draw_persons(GREY, [box], ("person",), ("a", "b"), [[0, 1]], long_side_px=320)
    assert (drawn.getpixel((120, 40)) == class_colour(0)) == bool(joints)
    assert drawn.getpixel((20, 100)) == class_colour(0)  # the box


def test_joints_far_outside_are_no_error():
    wild = np.array([[-1e5, -1e5, 2], [1e5, 40, 2], [40, 1e5, 2]])
    assert draw_keypoints(GREY, target(wild), found(wild, scores=[0.9]), ("person",), EDGES).width > 320
