"""Which place of a detector's grid learns which object: pure functions of one image, without gradients."""

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_iou

# FCOS's levels: a cell of stride s learns objects whose farthest side is 4 to 8 strides away (64 to 128 px at 16).
_REACH_MIN, _REACH_MAX = 4, 8


@torch.no_grad()
def centre_sampled(cells: Tensor, boxes: Tensor, radius: float) -> Tensor:
    """The box of each cell int64 [N], -1 for background (Tian et al. 2019, section 3.2, with centre sampling).

    cells: float [N, 4], xyxy, finest level first, each as wide as its stride; boxes: float [M, 4], xyxy. A cell learns
    the smallest of the boxes that its centre lies in, within `radius` strides of the box's centre on each axis, and
    whose farthest side is 4 to 8 strides away; the finest level has no lower limit and the coarsest no upper one.
    """
    if not len(boxes):
        return torch.full((len(cells),), -1, dtype=torch.int64, device=cells.device)
    centres, strides = (cells[:, None, :2] + cells[:, None, 2:]) / 2, (cells[:, 2] - cells[:, 0])[:, None]
    distances = torch.cat([centres - boxes[None, :, :2], boxes[None, :, 2:] - centres], dim=2)
    is_near = (centres - (boxes[:, :2] + boxes[:, 2:]) / 2).abs().amax(dim=2) < radius * strides
    farthest = distances.amax(dim=2)
    is_reached = ((farthest >= _REACH_MIN * strides) | (strides == strides.min())) & (
        (farthest < _REACH_MAX * strides) | (strides == strides.max())
    )
    is_candidate = (distances.amin(dim=2) > 0) & is_near & is_reached
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    smallest, match = torch.where(is_candidate, areas, torch.inf).min(dim=1)
    return torch.where(smallest.isfinite(), match, -1)


class Aligned(NamedTuple):
    """What the N places of an image learn."""

    match: Tensor  # int64 [N], the object of each place; -1: background
    quality: Tensor  # float32 [N], the class score that it should give; 0 for background


@torch.no_grad()
def task_aligned(
    scores: Tensor,
    predicted: Tensor,
    centres: Tensor,
    strides: Tensor,
    boxes: Tensor,
    labels: Tensor,
    most: int = 13,
    alpha: float = 1.0,
    beta: float = 6.0,
) -> Aligned:
    """Task-aligned assignment (Feng et al. 2021, "TOOD", equations 6 and 7).

    scores: float32 [N, C]; predicted: float32 [N, 4], xyxy; centres: float32 [N, 2]; strides: float32 [N];
    boxes: float32 [M, 4], xyxy; labels: int64 [M], from 0. Each object takes the `most` places where
    score^alpha * IoU^beta is largest; a place that two take goes to the one of larger IoU. The quality is that measure,
    scaled so that its largest value for an object is the object's largest IoU.
    Differs from the paper: of each level at least the one place nearest to an object's centre is a candidate, so that
    objects smaller than a cell are learned too.
    """
    if not len(boxes):
        nothing = torch.zeros(len(centres), device=scores.device)
        return Aligned(torch.full_like(nothing, -1, dtype=torch.int64), nothing)
    ious = box_iou(boxes, predicted)
    measure = scores[:, labels].T ** alpha * ious**beta
    is_taken = _best(measure, _candidates(centres, strides, boxes), most)
    owner = torch.where(is_taken, ious, -1.0).argmax(dim=0)
    is_owned = is_taken & (owner == torch.arange(len(boxes), device=owner.device)[:, None])
    measure, ious = measure * is_owned, ious * is_owned
    # Early IoUs to the sixth power are tiny, but only their ratio matters.
    smallest = torch.finfo(measure.dtype).tiny
    quality = measure / measure.amax(dim=1, keepdim=True).clamp(min=smallest) * ious.amax(dim=1, keepdim=True)
    return Aligned(torch.where(is_taken.any(dim=0), owner, -1), quality.sum(dim=0))


def _candidates(centres: Tensor, strides: Tensor, boxes: Tensor) -> Tensor:
    """Bool [M, N]: places inside each box, which counts as no smaller than a cell."""
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    reach = torch.maximum(half[:, None], strides[None, :, None] / 2)
    return ((centres[None] - middle[:, None]).abs() <= reach).all(dim=2)


def _best(measure: Tensor, is_candidate: Tensor, most: int) -> Tensor:
    """Bool [M, N]: for each object the candidates of the largest measure, at most so many."""
    ranked = torch.where(is_candidate, measure, -1.0)
    places = ranked.topk(min(most, ranked.shape[1]), dim=1).indices
    return torch.zeros_like(is_candidate).scatter(1, places, True) & is_candidate
