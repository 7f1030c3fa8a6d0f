"""A picture in the making: a lit ground, objects laid on it one over the other, and what is true of them."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from stages.data.shapes.contours import visible_polygons
from stages.data.shapes.outlines import ARROW_JOINTS_XY, Points
from stages.data.shapes.sprites import Pose, Sprite, coverage, draw_sprite, patch_around
from stages.data.shapes.textures import GROUND_TEXTURES, Colour, Field, Pixels, Rng, blend, colour, noise

Joint = tuple[float, float, int]  # x, y in pixels, and COCO's visibility: 0 outside the picture, 1 hidden, 2 seen


@dataclass(frozen=True)
class Figure:
    """One labelled object, as it can be seen."""

    shape: str
    box_xyxy: tuple[int, int, int, int]  # bounding box of the visible part, pixels
    polygons: tuple[Points, ...]  # visible part
    joints: tuple[Joint, ...]  # of arrows
    is_truncated: bool  # by the picture's border
    is_occluded: bool  # by another object


@dataclass(frozen=True)
class Light:
    """One light for the whole picture, and the camera's answer to it."""

    towards: Points  # unit vector x, y
    shadow: float  # darkness of shadows, 0..1
    gain: float
    contrast: float
    tint: Colour
    falloff: float  # loss of brightness across the picture

    @classmethod
    def draw(cls, rng: Rng) -> "Light":
        """A random light."""
        angle = rng.uniform(0, 2 * np.pi)
        return cls(
            towards=np.array([np.cos(angle), np.sin(angle)]),
            shadow=rng.uniform(0.2, 0.55),
            gain=rng.uniform(0.65, 1.15),
            contrast=rng.uniform(0.75, 1.15),
            tint=rng.normal(1, 0.04, 3).astype(np.float32),
            falloff=rng.uniform(0.0, 0.5),
        )

    def expose(self, pixels: Pixels) -> Pixels:
        """The picture in this light, 0..1."""
        height, width = pixels.shape[:2]
        y, x = np.linspace(-0.5, 0.5, height), np.linspace(-0.5, 0.5, width)
        slope = 1 + self.falloff * (self.towards[0] * x + self.towards[1] * y[:, None])
        lit = pixels * (self.gain * slope.astype(np.float32)[..., None] * self.tint)
        return np.clip(0.45 + self.contrast * (lit - 0.45), 0, 1)


@dataclass
class Laid:
    """An object on the canvas; `seen` shrinks as others are laid over it."""

    shape: str | None  # None: clutter without a label
    sprite: Sprite
    seen: Field  # (H, W) share of each pixel that shows the object

    def remains(self, cover: Sprite) -> float:
        """Share of the object that would still be seen under `cover`."""
        hidden = (self.seen[cover.patch.window] * cover.coverage).sum()
        return float(self.seen.sum() - hidden) / self.sprite.area_px2


class Canvas:
    """A ground of random texture, the objects laid on it, and a camera."""

    def __init__(self, rng: Rng, size_px: tuple[int, int]) -> None:
        self.rng, self.size_px, self.light = rng, size_px, Light.draw(rng)
        self.pixels = _ground(rng, size_px)
        self.ground: Colour = self.pixels.mean((0, 1))
        self.laid: list[Laid] = []

    def draw(self, outline: Points, texture: str, pose: Pose, hue: float | None = None) -> Sprite:
        """An object in the light of this picture and in colours unlike its ground; hue: None is any."""
        return draw_sprite(self.rng, outline, texture, hue, pose, self.size_px, self.ground, self.light.towards)

    def lay(self, sprite: Sprite, shape: str | None, min_visible: float) -> bool:
        """Lay an object on top, unless it or a labelled one below would be seen less than `min_visible`."""
        above = Laid(shape, sprite, np.zeros(self.size_px, np.float32))
        above.seen[sprite.patch.window] = sprite.coverage
        least = [sprite.coverage.sum() / sprite.area_px2, *(o.remains(sprite) for o in self.laid if o.shape)]
        if min(least) < min_visible:
            return False
        for below in self.laid:
            below.seen[sprite.patch.window] *= 1 - sprite.coverage
        self._paint(sprite)
        self.laid.append(above)
        return True

    def _paint(self, sprite: Sprite) -> None:
        radius_px = sprite.pose.radius_px
        blur_px = 0.06 * radius_px + 0.8
        fallen = sprite.vertices_px - self.light.towards * (0.12 * radius_px + 1)
        patch = patch_around(fallen, self.size_px, int(3 * blur_px) + 2)
        shadow = coverage(fallen, patch, blur_px) * np.float32(self.light.shadow)
        self.pixels[patch.window] *= 1 - shadow[..., None]
        under = self.pixels[sprite.patch.window]
        under += sprite.coverage[..., None] * (sprite.pixels - under)

    def photograph(self) -> Image.Image:
        """The picture through the camera: light, a little blur and sensor noise; RGB, 8 bits."""
        lit = (self.light.expose(self.pixels) * 255).astype(np.uint8)
        sharp = Image.fromarray(lit).filter(ImageFilter.GaussianBlur(self.rng.uniform(0, 0.7)))
        grain = self.rng.standard_normal(lit.shape, np.float32) * np.float32(self.rng.uniform(1, 7))
        return Image.fromarray(np.clip(np.asarray(sharp) + grain, 0, 255).astype(np.uint8))

    def figures(self) -> list[Figure]:
        """The labelled objects, from the lowest to the topmost."""
        return [_figure(laid, laid.shape) for laid in self.laid if laid.shape]


def _ground(rng: Rng, size_px: tuple[int, int]) -> Pixels:
    """Two muted colours in a large texture, with soft spots of light and shade."""
    texture = GROUND_TEXTURES[rng.integers(len(GROUND_TEXTURES))]
    first, other = (colour(rng, (0.05, 0.5), (0.3, 0.9)) for _ in range(2))
    second = first + (other - first) * np.float32(rng.uniform(0.25, 0.6))
    scale_px = max(min(size_px) * rng.uniform(0.06, 0.22), 5.0)
    shade = 0.85 + 0.3 * noise(rng, size_px, max(size_px) / 2, 2)
    return blend(texture(rng, size_px, scale_px), first, second) * shade[..., None]


def _figure(laid: Laid, shape: str) -> Figure:
    patch = laid.sprite.patch
    corner = np.array([patch.x0, patch.y0])
    polygons = [part + corner for part in visible_polygons(laid.seen[patch.window])]
    corners = np.concatenate(polygons)
    (x0, y0), (x1, y1) = np.round(corners.min(0)), np.round(corners.max(0))
    covered = laid.sprite.coverage.sum()
    return Figure(
        shape=shape,
        box_xyxy=(int(x0), int(y0), int(x1), int(y1)),
        polygons=tuple(polygons),
        joints=_joints(laid) if shape == "arrow" else (),
        is_truncated=bool(covered < 0.98 * laid.sprite.area_px2),
        is_occluded=bool(laid.seen.sum() < 0.98 * covered),
    )


def _joints(laid: Laid) -> tuple[Joint, ...]:
    return tuple(_joint(laid, float(x), float(y)) for x, y in laid.sprite.pose.apply(ARROW_JOINTS_XY).round(2))


def _joint(laid: Laid, x: float, y: float) -> Joint:
    """A joint is seen where at least half of the object around it is."""
    height, width = laid.seen.shape
    if not (0 <= x < width and 0 <= y < height):
        return (0.0, 0.0, 0)
    patch, column, row = laid.sprite.patch, int(x), int(y)
    around = laid.sprite.coverage[patch.near(column, row)].sum()
    seen = laid.seen[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].sum()
    return (x, y, 2 if seen > 0.5 * around else 1)
