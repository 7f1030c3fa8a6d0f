"""Where a model looks: Grad-CAM (Selvaraju et al. 2017, by Captum) on a few images of a split."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from captum.attr import LayerAttribution, LayerGradCam
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.data.loader import Batch, Samples, normalised
from stages.models.backbone import Backbone
from stages.tasks import task as tasks

MIN_CELLS = 4  # a map with fewer cells a side says nothing of where


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
    heat = None if said.score is None else _heat(task, model, batch)
    return Saliency(sample["key"], said.words, pixels[0].permute(1, 2, 0).numpy(), heat, said.box_xyxy)


def _heat(task: tasks.Task, model: nn.Module, batch: Batch) -> NDArray[np.float32]:
    """The map of one image, [H, W], its largest value 1; all 0 where no cell speaks for the answer."""

    def score(images: Tensor) -> Tensor:
        explained = task.explained(model, {**batch, "images": images}).score
        assert explained is not None
        return explained[None]

    images = batch["images"]
    side_px = min(images.shape[-2:])
    backbone: Any = model.backbone
    cells = LayerGradCam(score, _layer(backbone, side_px)).attribute(images, relu_attributions=True)
    heat = LayerAttribution.interpolate(cells.detach(), tuple(images.shape[-2:]), "bilinear")[0, 0]
    return (heat / heat.max().clamp(min=1e-12)).cpu().numpy().astype(np.float32)


def _layer(backbone: Backbone, side_px: int) -> nn.Module:
    """The last layer of the coarsest feature map that still has MIN_CELLS cells a side, else of the finest."""
    fine = [i for i, stride in enumerate(backbone.strides) if side_px / stride >= MIN_CELLS]
    return backbone.net.get_submodule(backbone.layout.stages[max(fine, default=0)][-1])
