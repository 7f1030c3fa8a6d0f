"""A part of an image on a canvas, turned, scaled and mirrored: what a top-down model sees of a person."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from stages.data.samples import Box
from stages.data.transforms import CANVAS_GREY
from stages.params.augmentation import KeypointAugmentation


@dataclass(frozen=True, eq=False)
class Crop:
    """Where an image lies on a canvas: canvas = matrix @ (x, y, 1), a similarity, perhaps with a mirror."""

    matrix: NDArray[np.float64]  # [2, 3]

    @property
    def scale(self) -> float:
        """Canvas pixels an image pixel."""
        return math.sqrt(abs(np.linalg.det(self.matrix[:, :2])))

    @property
    def is_mirrored(self) -> bool:
        """Whether left and right have changed places; a turn by any angle does not do that."""
        return bool(np.linalg.det(self.matrix[:, :2]) < 0)

    def to_canvas(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points [..., 2] of the image, in pixels, to canvas pixels."""
        return points @ self.matrix[:, :2].T + self.matrix[:, 2]

    def to_original(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points [..., 2] on the canvas to pixels of the image."""
        return (points - self.matrix[:, 2]) @ np.linalg.inv(self.matrix[:, :2]).T

    def draw(self, image: Tensor, canvas: Tensor) -> None:
        """Draw uint8 [3, H, W] onto a uint8 canvas [3, Hc, Wc], grey where the image has nothing."""
        H, W = image.shape[1:]
        if self.scale < 1:  # shrunk with antialiasing first: sampling alone would skip pixels
            image = tv.resize(image, [max(1, round(H * self.scale)), max(1, round(W * self.scale))], antialias=True)
        rows, columns = (torch.arange(n, dtype=torch.float64) + 0.5 for n in canvas.shape[1:])
        centres = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).numpy()
        places = torch.from_numpy(self.to_original(centres) / np.array([W, H]) * 2 - 1).float()
        pixels = image.float()[None] - CANVAS_GREY
        drawn = F.grid_sample(pixels, places[None], mode="bilinear", padding_mode="zeros", align_corners=False)
        canvas.copy_((drawn[0] + CANVAS_GREY).round().clamp(0, 255).to(torch.uint8))


def fitted(box_xyxy: Box, canvas_hw: tuple[int, int], margin: float = 1.0) -> Crop:
    """The crop whose middle is the box, as large as fits the canvas with a margin around it."""
    return _crop(box_xyxy, canvas_hw, margin, 1.0, 0.0, False, False)


def varied(
    box_xyxy: Box,
    canvas_hw: tuple[int, int],
    margin: float,
    augmentation: KeypointAugmentation,
    random: np.random.Generator,
) -> Crop:
    """`fitted` with a random zoom, turn and mirror."""
    return _crop(
        box_xyxy,
        canvas_hw,
        margin,
        random.uniform(*augmentation.scale),
        math.radians(random.uniform(-augmentation.rotation_deg, augmentation.rotation_deg)),
        bool(random.random() < augmentation.flip_horizontal),
        bool(random.random() < augmentation.flip_vertical),
    )


def _crop(
    box_xyxy: Box, canvas_hw: tuple[int, int], margin: float, zoom: float, angle: float, flip_x: bool, flip_y: bool
) -> Crop:
    x1, y1, x2, y2 = box_xyxy
    sides = max(x2 - x1, 1.0), max(y2 - y1, 1.0)
    scale = zoom / margin * min(canvas_hw[1] / sides[0], canvas_hw[0] / sides[1])
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = scale * np.diag([-1.0 if flip_x else 1.0, -1.0 if flip_y else 1.0]) @ turn
    middle, centre = np.array([x1 + x2, y1 + y2]) / 2, np.array([canvas_hw[1], canvas_hw[0]]) / 2
    return Crop(np.column_stack([linear, centre - linear @ middle]))
