"""What every detector does with boxes: check those it learns from, and keep the best of those it finds."""

from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image, remove_small_boxes

from stages.params.detectors import OneStageParams

_LEAST_SIDE_PX = 0.01  # what lay in the padding has no area once it is cut


def check_targets(targets: list[dict[str, Tensor]] | None) -> list[dict[str, Tensor]]:
    """The targets; ValueError when there are none, or a box has no area."""
    if targets is None:
        raise ValueError("targets are missing; give boxes and labels for each image, or call eval() to detect")
    for i, target in enumerate(targets):
        flat = (target["boxes"][:, 2:] <= target["boxes"][:, :2]).any(dim=1)
        if flat.any():
            box = target["boxes"][flat][0].tolist()
            raise ValueError(f"image {i} of the batch has a box without area, xyxy {box}; drop it before training")
    return targets


def best_boxes(boxes: Tensor, scores: Tensor, size: tuple[int, int], params: OneStageParams) -> dict[str, Tensor]:
    """Detections of one image, best first: labels from 1, suppressed within each class, cut at the content's edge.

    boxes: float32 [N, 4], xyxy; scores: float32 [N, C]; size: height and width of the content in pixels.
    """
    is_kept = scores > params.score_threshold
    found, order = scores[is_kept].sort(descending=True, stable=True)
    place, label = is_kept.nonzero()[order[: params.candidates]].unbind(1)
    inside = clip_boxes_to_image(boxes[place], size)
    whole = remove_small_boxes(inside, _LEAST_SIDE_PX)
    inside, label, found = inside[whole], label[whole], found[whole]
    best = batched_nms(inside, found, label, params.nms_iou)[: params.max_detections]
    return {"boxes": inside[best], "labels": label[best] + 1, "scores": found[best]}
