"""Where a model looks, on a few images of a split: HiResCAM (Draelos and Carin 2020) by Captum.

Gradient times activation, cell by cell. Grad-CAM, which averages the gradient over the whole map first, gives the same
for a classifier's last map, but puts a detector's heat far from the box that it is asked about.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from captum.attr import LayerAttribution, LayerGradientXActivation
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.data.loader import Batch, Samples, normalised
from stages.models.backbone import Backbone
from stages.tasks import task as tasks

MIN_CELLS = 4  # a side of the map that is explained; fewer would say nothing of where


@dataclass(frozen=True, eq=False)
class Saliency:
    """One image as the model gets it, and what of it speaks for the model's surest answer."""

    key: str
    words: str
    image: NDArray[np.uint8]  # [H, W, 3]
    heat: NDArray[np.float32] | None  # [H, W] in [0, 1]; None where nothing was found
    box_xyxy: tuple[float, ...] | None  # pixels of `image`


def explain(task: tasks.Task, model: nn.Module, samples: Samples, count: int) -> list[Saliency]:
    """Saliency of `count` samples, or of all if there are fewer, spread evenly over the split."""
    model.eval()
    places = np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int).tolist()
    return [_explain(task, model, samples, place) for place in places]


def _explain(task: tasks.Task, model: nn.Module, samples: Samples, index: int) -> Saliency:
    pixels = torch.empty((1, *samples.image_shape), dtype=torch.uint8)
    sample = samples.load(index, 0, pixels[0])
    device = next(model.parameters()).device
    batch: Batch = {key: [value] for key, value in sample.items()} | {"images": normalised(pixels, device, False)}
    with torch.no_grad():
        said = task.explained(model, batch)
    heat = None if said.score is None else _heat(task, model, batch, _extent_px(said, pixels))
    return Saliency(sample["key"], said.words, pixels[0].permute(1, 2, 0).numpy(), heat, said.box_xyxy)


def _extent_px(said: tasks.Explained, pixels: Tensor) -> float:
    """How far the map has to reach: over the image, or over a box and as much again around it."""
    if said.box_xyxy is None:
        return float(min(pixels.shape[-2:]))
    x1, y1, x2, y2 = said.box_xyxy
    return 2 * min(x2 - x1, y2 - y1)


def _heat(task: tasks.Task, model: nn.Module, batch: Batch, extent_px: float) -> NDArray[np.float32]:
    """The map of one image, [H, W], its largest value 1; all 0 where no cell speaks for the answer."""

    def score(images: Tensor) -> Tensor:
        explained = task.explained(model, {**batch, "images": images}).score
        assert explained is not None
        return explained[None]

    images = batch["images"]
    backbone: Any = model.backbone
    channels = LayerGradientXActivation(score, _layer(backbone, extent_px)).attribute(images)
    cells = backbone.as_map(channels.detach(), images.shape[-2:]).sum(1, keepdim=True).relu()
    heat = LayerAttribution.interpolate(cells, tuple(images.shape[-2:]), "bilinear")[0, 0]
    return (heat / heat.max().clamp(min=1e-12)).cpu().numpy().astype(np.float32)


def _layer(backbone: Backbone, extent_px: float) -> nn.Module:
    """The layer to explain of the coarsest stage that still has MIN_CELLS cells in extent_px, else of the finest."""
    fine = [i for i, stride in enumerate(backbone.strides) if extent_px / stride >= MIN_CELLS]
    return backbone.explained_layer(max(fine, default=0))
