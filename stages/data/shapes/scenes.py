"""What is in a picture: many objects in one scene, or one dominant object with clutter."""

import numpy as np

from stages.data.shapes.canvas import Canvas
from stages.data.shapes.outlines import OUTLINES, Points, bar, blob
from stages.data.shapes.sprites import Pose, Sprite
from stages.data.shapes.textures import OBJECT_TEXTURES, Rng

SCENE_SHAPES = ("arrow", "crescent", "disc", "heart", "square")
# Every texture comes with three of the shapes and every shape with two textures: neither tells the class alone.
PRETRAINING_KINDS = (
    *(("disc", "striped"), ("disc", "dotted"), ("square", "dotted"), ("square", "checked")),
    *(("triangle", "checked"), ("triangle", "marbled"), ("star", "marbled"), ("star", "striped")),
    *(("cross", "striped"), ("cross", "checked"), ("hexagon", "dotted"), ("hexagon", "marbled")),
)
UNSEEN_SHAPES = ("arrow", "bolt", "crescent", "drop", "flower", "gear", "heart", "ring")
TEXTURES = tuple(OBJECT_TEXTURES)
MIN_VISIBLE = 0.35
MIN_DOMINANT_VISIBLE = 0.8
MAX_TURN = 1.0  # radians: things have an upright position, as in photographs
TRIES = 8
# As lemons are mostly yellow, most objects of a shape have about its hue; neighbours on the colour wheel overlap.
TYPICAL_HUES = {shape: number * 0.618 % 1 for number, shape in enumerate(sorted(OUTLINES))}
HUE_DEVIATION = 0.03
TYPICAL_SHARE = 0.9


def scene(rng: Rng, size_px: tuple[int, int]) -> Canvas:
    """2 to 6 objects of SCENE_SHAPES, over and under each other and unlabelled clutter; height, width."""
    canvas = Canvas(rng, size_px)
    names = [*rng.choice(SCENE_SHAPES, rng.integers(2, 7)), *[None] * rng.integers(0, 3)]
    for name in rng.permutation(np.array(names, object)):
        radius_px = min(size_px) * 0.09 * 3.0 ** rng.random()
        _try_to_lay(canvas, name, radius_px * (1 if name else 0.7))
    return canvas


def _try_to_lay(canvas: Canvas, name: str | None, radius_px: float) -> None:
    """An object at the first of a few random places where all objects stay visible; none when there is no such."""
    rng = canvas.rng
    height, width = canvas.size_px
    texture = TEXTURES[rng.integers(len(TEXTURES))]
    for _ in range(TRIES):
        pose = _pose(rng, (rng.uniform(0, width), rng.uniform(0, height)), radius_px)
        if canvas.lay(_object(canvas, name, texture, pose), name, MIN_VISIBLE):
            return


def _object(canvas: Canvas, name: str | None, texture: str, pose: Pose) -> Sprite:
    """A shape, mostly in its typical hue, or clutter in any colour."""
    if name is None:
        return canvas.draw(_clutter(canvas.rng), texture, pose)
    is_typical = canvas.rng.random() < TYPICAL_SHARE
    hue = float(canvas.rng.normal(TYPICAL_HUES[name], HUE_DEVIATION)) if is_typical else None
    return canvas.draw(OUTLINES[name], texture, pose, hue)


def portrait(rng: Rng, size_px: tuple[int, int], shape: str, texture: str | None = None) -> Canvas:
    """One dominant object of this shape (and texture; None: any) on clutter, partly hidden at most; height, width."""
    canvas = Canvas(rng, size_px)
    side_px = min(size_px)
    _scatter(canvas, int(rng.integers(0, 4)), side_px)
    radius_px = side_px * rng.uniform(0.3, 0.46)
    room = np.array(size_px[::-1]) - 1.8 * radius_px
    x, y = np.array(size_px[::-1]) / 2 + room * rng.uniform(-0.5, 0.5, 2)
    pose = _pose(rng, (float(x), float(y)), radius_px)
    canvas.lay(_object(canvas, shape, texture or TEXTURES[rng.integers(len(TEXTURES))], pose), shape, 0.0)
    _scatter(canvas, int(rng.integers(0, 2)), side_px)
    return canvas


def _scatter(canvas: Canvas, number: int, side_px: int) -> None:
    """Small clutter at random places, where it hides little of a labelled object."""
    rng = canvas.rng
    for _ in range(number):
        centre = (rng.uniform(0, canvas.size_px[1]), rng.uniform(0, canvas.size_px[0]))
        pose = _pose(rng, centre, side_px * rng.uniform(0.06, 0.2))
        canvas.lay(_object(canvas, None, TEXTURES[rng.integers(len(TEXTURES))], pose), None, MIN_DOMINANT_VISIBLE)


def _clutter(rng: Rng) -> Points:
    return blob(rng) if rng.random() < 0.7 else bar(rng)


def _pose(rng: Rng, centre_px: tuple[float, float], radius_px: float) -> Pose:
    return Pose(centre_px, radius_px, rng.uniform(-MAX_TURN, MAX_TURN), float(np.exp(rng.uniform(-0.25, 0.25))))
