"""Joints drawn on their images: bones as lines, each person in a colour."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from stages.pictures.predictions import class_colour, contact_sheet, draw_boxes

Edges = Sequence[Sequence[int]]
RADIUS_PX, BONE_PX = 3, 2
SEEN, OCCLUDED = (255, 255, 255), (40, 40, 40)  # the middle of a joint
MIN_SCORE = 0.1  # of a joint that is drawn


class Persons(Protocol):
    """Who is in an image: stages.metrics.keypoints.Target, for one."""

    keypoints: NDArray[Any]  # [M, K, 3] x, y, visibility: 0 not labelled, 1 occluded, 2 seen


class ScoredPersons(Protocol):
    """Who was found in an image: stages.metrics.keypoints.Prediction, for one."""

    boxes_xyxy: NDArray[Any]  # [N, 4] pixels
    labels: NDArray[Any]  # [N] class indices
    scores: NDArray[Any]  # [N]
    keypoints: NDArray[Any]  # [N, K, 3] x, y, score


def draw_keypoints(
    image: NDArray[np.uint8],
    truth: Persons,
    prediction: ScoredPersons,
    class_names: Sequence[str],
    edges: Edges,
    score_threshold: float = 0.5,
    long_side_px: int = 480,
) -> Image.Image:
    """The image uint8 [H, W, 3] twice: left with the true joints, right with those of persons of at least a score.

    edges: pairs of joint numbers. A true joint that is occluded has a dark middle; of the found ones those of at least
    MIN_SCORE are drawn.
    """
    left = draw_boxes(image, [], class_names, long_side_px)
    _draw(left, image, truth.keypoints, truth.keypoints[..., 2] > 0, truth.keypoints[..., 2] == 1, edges)
    right = draw_boxes(image, [], class_names, long_side_px)
    shown = prediction.keypoints[prediction.scores >= score_threshold]
    _draw(right, image, shown, shown[..., 2] >= MIN_SCORE, np.zeros(shown.shape[:2], bool), edges)
    captions = [
        f"truth: {int((truth.keypoints[..., 2] > 0).any(1).sum())}",
        f"found with a score of at least {score_threshold:g}: {len(shown)}",
    ]
    return contact_sheet([left, right], captions, columns=2)


def draw_persons(
    image: NDArray[np.uint8],
    boxes: Sequence[Mapping[str, Any]],
    class_names: Sequence[str],
    joints: Sequence[str],
    edges: Edges,
    long_side_px: int = 640,
) -> Image.Image:
    """The image with boxes as a model answers them, which have joints by name, and their bones."""
    drawn = draw_boxes(image, boxes, class_names, long_side_px)
    nothing = {"x": 0.0, "y": 0.0, "score": 0.0}
    found = [[box.get("joints", {}).get(name, nothing) for name in joints] for box in boxes]
    rows = [[[joint["x"], joint["y"], joint["score"]] for joint in person] for person in found]
    keypoints = np.array(rows, np.float64).reshape(-1, len(joints), 3)
    _draw(drawn, image, keypoints, keypoints[..., 2] >= MIN_SCORE, np.zeros(keypoints.shape[:2], bool), edges)
    return drawn


def _draw(
    picture: Image.Image,
    image: NDArray[np.uint8],
    keypoints: NDArray[Any],
    is_shown: NDArray[np.bool_],
    is_dark: NDArray[np.bool_],
    edges: Edges,
) -> None:
    draw = ImageDraw.Draw(picture)
    scale = np.array([picture.width / image.shape[1], picture.height / image.shape[0]])
    for number, points in enumerate(keypoints[..., :2] * scale):
        colour, shown = class_colour(number), is_shown[number]
        for a, b in edges:
            if shown[a] and shown[b]:
                draw.line([*points[a], *points[b]], fill=colour, width=BONE_PX)
        for joint in np.flatnonzero(shown):
            (x, y), middle = points[joint], OCCLUDED if is_dark[number, joint] else SEEN
            draw.ellipse([x - RADIUS_PX, y - RADIUS_PX, x + RADIUS_PX, y + RADIUS_PX], fill=middle, outline=colour)
