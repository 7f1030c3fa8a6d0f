"""Textures: (H, W) float32 fields in 0..1 that blend two colours, and the colours."""

import colorsys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Field = NDArray[np.float32]
Pixels = NDArray[np.float32]  # (H, W, 3) RGB, 0..1
Colour = NDArray[np.float32]  # (3,) RGB in 0..1
Rng = np.random.Generator
Texture = Callable[[Rng, tuple[int, int], float], Field]  # generator, (height, width), size of the pattern in pixels


def noise(rng: Rng, size_px: tuple[int, int], scale_px: float, octaves: int = 3) -> Field:
    """Value noise: random grids of finer and finer cells, interpolated and summed, stretched to 0..1."""
    height, width = size_px
    total = np.zeros(size_px, np.float32)
    for octave in range(octaves):
        cell = max(scale_px / 2**octave, 1.0)
        grid = rng.random((int(height / cell) + 3, int(width / cell) + 3), np.float32)
        window = (0.5, 0.5, 0.5 + width / cell, 0.5 + height / cell)
        total += np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC, window)) / 2**octave
    low, high = float(total.min()), float(total.max())
    return (total - low) / np.float32(max(high - low, 1e-6))


def _axes(rng: Rng, size_px: tuple[int, int]) -> tuple[Field, Field]:
    """Pixel coordinates along two perpendicular axes of random direction and offset."""
    y, x = np.indices(size_px, np.float32)
    angle = rng.uniform(0, np.pi)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    shift_u, shift_v = rng.uniform(0, 100, 2).astype(np.float32)
    return cos * x + sin * y + shift_u, cos * y - sin * x + shift_v


def _edge(distance_px: Field) -> Field:
    """0 to 1 across one pixel: an anti-aliased edge at distance 0."""
    return np.clip(distance_px + np.float32(0.5), 0, 1)


def _bands(u: Field, period_px: float, share: float = 0.5) -> Field:
    """Parallel bands: 1 over `share` of each period."""
    saw = np.abs((u / np.float32(period_px)) % 1 - np.float32(0.5))
    return _edge((np.float32(share / 2) - saw) * np.float32(period_px))


def plain(rng: Rng, size_px: tuple[int, int], scale_px: float) -> Field:
    """A faint cloudiness, far from a pattern."""
    return 0.25 * noise(rng, size_px, 2 * scale_px, 1)


def striped(rng: Rng, size_px: tuple[int, int], scale_px: float) -> Field:
    """Straight bands."""
    return _bands(_axes(rng, size_px)[0], scale_px, rng.uniform(0.4, 0.6))


def checked(rng: Rng, size_px: tuple[int, int], scale_px: float) -> Field:
    """A checkerboard."""
    first, second = (_bands(axis, 1.3 * scale_px) for axis in _axes(rng, size_px))
    return first + second - 2 * first * second


def dotted(rng: Rng, size_px: tuple[int, int], scale_px: float) -> Field:
    """Round dots on a square lattice."""
    u, v = (axis % scale_px - scale_px / 2 for axis in _axes(rng, size_px))
    return _edge(np.float32(rng.uniform(0.27, 0.34) * scale_px) - np.hypot(u, v))


def marbled(rng: Rng, size_px: tuple[int, int], scale_px: float) -> Field:
    """Veins: the level lines of value noise."""
    return _edge(
        np.sin(noise(rng, size_px, 1.6 * scale_px) * np.float32(rng.uniform(9, 13))) * np.float32(scale_px / 4)
    )


def wooden(rng: Rng, size_px: tuple[int, int], scale_px: float) -> Field:
    """Soft wavy grain."""
    u, v = _axes(rng, size_px)
    bend = noise(rng, size_px, 4 * scale_px, 2) * np.float32(2.5 * scale_px)
    rings = np.sin((u + bend) * np.float32(2 * np.pi / scale_px)) * np.sin(v * np.float32(0.3 / scale_px) + 1)
    return 0.5 + 0.35 * rings


def clouded(rng: Rng, size_px: tuple[int, int], scale_px: float) -> Field:
    """Soft value noise."""
    return noise(rng, size_px, 3 * scale_px, 4)


def graded(rng: Rng, size_px: tuple[int, int], scale_px: float) -> Field:
    """A straight gradient over the whole field."""
    u, _ = _axes(rng, size_px)
    return (u - u.min()) / np.float32(max(float(np.ptp(u)), scale_px))


def grainy(rng: Rng, size_px: tuple[int, int], scale_px: float) -> Field:
    """Fine speckle, like sand."""
    fine = noise(rng, size_px, max(scale_px / 8, 1.5), 2)
    return 0.6 * fine + 0.4 * noise(rng, size_px, 3 * scale_px, 2)


OBJECT_TEXTURES: dict[str, Texture] = {
    "plain": plain,
    "striped": striped,
    "dotted": dotted,
    "checked": checked,
    "marbled": marbled,
}
GROUND_TEXTURES: tuple[Texture, ...] = (clouded, wooden, graded, grainy, striped, checked, marbled)


def colour(rng: Rng, saturation: tuple[float, float], value: tuple[float, float], hue: float | None = None) -> Colour:
    """A random colour with saturation and value in these ranges; its hue is the given one, or any."""
    shade = rng.random() if hue is None else hue
    return np.array(colorsys.hsv_to_rgb(shade % 1, rng.uniform(*saturation), rng.uniform(*value)), np.float32)


def colour_unlike(rng: Rng, *others: Colour, hue: float | None = None) -> Colour:
    """Of a few random colours, of this hue if one is given, that which stands out most from all the others."""
    saturation = (0.15, 0.85) if hue is None else (0.45, 0.95)
    candidates = [colour(rng, saturation, (0.2, 1.0), hue) for _ in range(6)]
    return max(candidates, key=lambda c: min(float(np.abs(c - other).sum()) for other in others))


def blend(field: Field, first: Colour, second: Colour) -> Pixels:
    """Two colours mixed: `first` where the field is 0, `second` where it is 1."""
    return first + field[..., None] * (second - first)
