"""One object, drawn: where it covers the picture, and in which colours."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from stages.data.shapes.outlines import Points
from stages.data.shapes.textures import OBJECT_TEXTURES, Colour, Field, Pixels, Rng, blend, colour_unlike

SUPERSAMPLING = 4


@dataclass(frozen=True)
class Patch:
    """A rectangle of whole pixels inside a picture."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def window(self) -> tuple[slice, slice]:
        """Index of the rectangle in an (H, W, ...) array."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def near(self, x: int, y: int) -> tuple[slice, slice]:
        """Index, in an array of the patch, of the pixel x, y of the picture with its eight neighbours."""
        row, column = y - self.y0, x - self.x0
        return slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2)


@dataclass(frozen=True)
class Pose:
    """Where a unit outline lies in a picture."""

    centre_px: tuple[float, float]
    radius_px: float
    angle: float  # radians
    aspect: float  # stretch along the outline's own x axis

    def apply(self, points: Points) -> Points:
        """Unit coordinates to pixels, (N, 2)."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        stretch = self.radius_px * np.array([self.aspect**0.5, self.aspect**-0.5])
        return (points * stretch) @ np.array([[cos, sin], [-sin, cos]]) + self.centre_px


@dataclass(frozen=True)
class Sprite:
    """An object ready to be laid on a picture."""

    vertices_px: Points
    pose: Pose
    patch: Patch
    coverage: Field  # (h, w) of the patch, 0..1
    pixels: Pixels  # (h, w, 3) of the patch
    area_px2: float  # of the whole outline, inside the picture or not


def patch_around(vertices_px: Points, size_px: tuple[int, int], margin_px: int = 2) -> Patch:
    """The vertices' bounding rectangle with a margin, cut at the picture's border; at least one pixel."""
    height, width = size_px
    (x0, y0), (x1, y1) = np.floor(vertices_px.min(0)) - margin_px, np.ceil(vertices_px.max(0)) + margin_px
    left, top = int(np.clip(x0, 0, width - 1)), int(np.clip(y0, 0, height - 1))
    return Patch(left, top, int(np.clip(x1, left + 1, width)), int(np.clip(y1, top + 1, height)))


def coverage(vertices_px: Points, patch: Patch, blur_px: float = 0.0) -> Field:
    """Share of each pixel of the patch inside the polygon (even-odd rule), from supersampling."""
    height, width = patch.size_px
    mask = Image.new("L", (width * SUPERSAMPLING, height * SUPERSAMPLING))
    # Pillow puts whole numbers at pixel centres: half a pixel less puts edges where they belong.
    corners = (vertices_px - (patch.x0, patch.y0)) * SUPERSAMPLING - 0.5
    ImageDraw.Draw(mask).polygon([tuple(corner) for corner in corners.tolist()], fill=255)
    return soften(np.asarray(mask.reduce(SUPERSAMPLING), np.float32) / np.float32(255), blur_px)


def soften(field: Field, blur_px: float) -> Field:
    """A Gaussian blur of a field in 0..1."""
    if blur_px <= 0:
        return field
    grey = Image.fromarray((field * 255).astype(np.uint8))
    return np.asarray(grey.filter(ImageFilter.GaussianBlur(blur_px)), np.float32) / np.float32(255)


def polygon_area(vertices_px: Points) -> float:
    """Area inside a closed polygon, square pixels (shoelace formula)."""
    x, y = vertices_px.T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def draw_sprite(
    rng: Rng,
    outline: Points,
    texture: str,
    hue: float | None,
    pose: Pose,
    size_px: tuple[int, int],
    ground: Colour,
    to_light: Points,
) -> Sprite:
    """An object in colours that differ from `ground`, lit from the direction `to_light` (unit vector x, y).

    hue: of both colours, turns of the colour wheel; None: any.
    """
    vertices = pose.apply(outline)
    patch = patch_around(vertices, size_px)
    mask = coverage(vertices, patch)
    scale_px = max(pose.radius_px * rng.uniform(0.3, 0.5), 5.0)
    first = colour_unlike(rng, ground, hue=hue)
    second = colour_unlike(rng, ground, first, hue=hue)
    pixels = blend(OBJECT_TEXTURES[texture](rng, patch.size_px, scale_px), first, second)
    lit = pixels * _relief(mask, pose, patch, to_light)[..., None]
    return Sprite(vertices, pose, patch, mask, lit, polygon_area(vertices))


def _relief(mask: Field, pose: Pose, patch: Patch, to_light: Points) -> Field:
    """Brightness of a slightly rounded body: brighter towards the light, with a bevel at its edge."""
    if min(patch.size_px) < 2:
        return np.ones(patch.size_px, np.float32)
    y, x = np.indices(patch.size_px, np.float32)
    away = (x + patch.x0 - pose.centre_px[0]) * to_light[0] + (y + patch.y0 - pose.centre_px[1]) * to_light[1]
    slope_y, slope_x = np.gradient(soften(mask, max(pose.radius_px * 0.07, 0.7)))
    bevel = -(slope_x * to_light[0] + slope_y * to_light[1]) * min(pose.radius_px * 0.25, 5.0)
    return np.asarray(1 + 0.14 * away / pose.radius_px + 0.55 * bevel, np.float32)
