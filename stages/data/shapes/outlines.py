"""Shapes as polygons in the unit disc: (N, 2) float64 arrays of x (to the right) and y (down)."""

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

ARROW_JOINTS = ("tip", "left_barb", "right_barb", "neck", "tail")
ARROW_EDGES = ((0, 1), (0, 2), (0, 3), (3, 4))  # pairs of joint numbers, from 0
ARROW_JOINTS_XY: Points = np.array([(0, -1), (-0.66, -0.22), (0.66, -0.22), (0, -0.22), (0, 0.96)])


def polar(radii: Points, turn: float = 0.0) -> Points:
    """Closed curve with these radii at equal angles, clockwise from the top; `turn` in radians."""
    angles = np.linspace(0, 2 * np.pi, len(radii), endpoint=False) + turn
    return np.stack([radii * np.sin(angles), -radii * np.cos(angles)], axis=1)


def blob(rng: np.random.Generator) -> Points:
    """A pebble: an irregular smooth outline, unlike any named shape."""
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    waves = [rng.normal(0, 0.28 / k) * np.cos(k * angles + rng.uniform(0, 2 * np.pi)) for k in range(2, 6)]
    radii = np.clip(1 + np.sum(waves, axis=0), 0.35, None)
    return polar(radii / radii.max())


def bar(rng: np.random.Generator) -> Points:
    """A thin rod of random thickness."""
    thick = rng.uniform(0.05, 0.16)
    return np.array([(-1, -thick), (1, -thick), (1, thick), (-1, thick)])


def _mirrored(right: list[tuple[float, float]]) -> Points:
    """Both halves of a figure whose right half is given from top to bottom."""
    half = np.array(right)
    return np.concatenate([half, half[::-1] * (-1, 1)])


def _ring(inner: float = 0.56) -> Points:
    """Two circles joined by a slit without width, so that one polygon holds the hole."""
    circle = polar(np.ones(49))
    circle[-1] = circle[0]
    return np.concatenate([circle, inner * circle[::-1]])


def _crescent(bite: float = 0.42) -> Points:
    """The unit disc less a disc of the same radius moved to the right by 2 * bite."""
    horn = np.arccos(bite)
    outer = np.linspace(horn, 2 * np.pi - horn, 40)
    inner = np.linspace(np.pi + horn, np.pi - horn, 30)
    arc = np.stack([np.cos(outer), np.sin(outer)], axis=1)
    bitten = np.stack([2 * bite + np.cos(inner), np.sin(inner)], axis=1)
    return np.concatenate([arc, bitten]) + np.array([0.15, 0])


def _heart() -> Points:
    t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -2.5 - y], axis=1) / 16.5


def _drop() -> Points:
    t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    return np.stack([0.95 * np.sin(t) * np.sin(t / 2) ** 1.6, -np.cos(t)], axis=1)


def _gear(teeth: int = 8) -> Points:
    return polar(np.tile([1.0, 1.0, 0.68, 0.68], teeth))


OUTLINES: dict[str, Points] = {
    "arrow": _mirrored([(0, -1), (0.66, -0.22), (0.25, -0.22), (0.25, 0.96)]),
    "bolt": np.array([(0.25, -1), (-0.6, 0.14), (-0.08, 0.14), (-0.3, 1), (0.6, -0.24), (0.06, -0.24), (0.5, -1)]),
    "crescent": _crescent(),
    "cross": _mirrored([(0.3, -0.95), (0.3, -0.3), (0.95, -0.3), (0.95, 0.3), (0.3, 0.3), (0.3, 0.95)]),
    "disc": polar(np.full(48, 0.9)),
    "drop": _drop(),
    "flower": polar(0.74 + 0.26 * np.cos(5 * np.linspace(0, 2 * np.pi, 60, endpoint=False))),
    "gear": _gear(),
    "heart": _heart(),
    "hexagon": polar(np.ones(6)),
    "ring": _ring(),
    "square": polar(np.ones(4), turn=np.pi / 4),
    "star": polar(np.tile([1.0, 0.42], 5)),
    "triangle": polar(np.ones(3)),
}
