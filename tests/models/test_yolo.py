"""The anchor-free YOLO: its losses by hand, its boxes, and what it starts from."""

import math

import pytest
import torch
from torchvision.ops import complete_box_iou_loss, generalized_box_iou

from stages.losses.assignment import task_aligned
from stages.models import backbones, yolo
from stages.models.yolo import YOLO, boxes_from, sides_from
from stages.params.detectors import YOLOParams

HEIGHT, WIDTH = 64, 96


def detector(**params) -> YOLO:
    torch.manual_seed(0)
    return YOLO(backbones.build("resnet18"), 3, YOLOParams(**{"neck_channels": 16, "head_convs": 1, **params}))


def batch():
    images = torch.rand(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(2))
    targets = [
        {"boxes": torch.tensor([[8.0, 10, 50, 60], [60, 20, 96, 64]]), "labels": torch.tensor([1, 3])},
        {"boxes": torch.tensor([[30.0, 5, 70, 45]]), "labels": torch.tensor([2])},
    ]
    return images, targets


def test_losses_by_hand():
    """Each loss written out place by place, from the assignment that test_assignment checks."""
    model = detector()
    images, targets = batch()
    outputs = model.outputs(model.backbone.features(images)[1:])
    losses = model.losses(outputs, targets)
    boxes, scores = model.boxes_and_scores(outputs)
    classes = box = distance = total = torch.tensor(0.0)
    for i, target in enumerate(targets):
        truth, labels = target["boxes"], target["labels"] - 1
        match, quality = task_aligned(scores[i], boxes[i], outputs["centres"], outputs["strides"], truth, labels)
        for n, m in enumerate(match.tolist()):
            wanted = torch.zeros(3)
            if m >= 0:
                wanted[labels[m]] = quality[n]
                box = box + quality[n] * (1 - generalized_box_iou(boxes[i, n : n + 1], truth[m : m + 1])[0, 0])
                sides = sides_from(truth[m : m + 1], outputs["centres"][n : n + 1], outputs["strides"][n : n + 1])[0]
                for side, bins in zip(sides.clamp(0, 15), outputs["bins"][i, n], strict=True):
                    low = min(int(side), 14)
                    log_p = bins.log_softmax(0)
                    share = side - low
                    distance = distance - quality[n] * ((1 - share) * log_p[low] + share * log_p[low + 1]) / 4
            p = scores[i, n]
            entropy = -(wanted * p.log() + (1 - wanted) * (1 - p).log())
            classes = classes + ((wanted - p) ** 2 * entropy).sum()
        total = total + quality.sum()
    total = total.clamp(min=1)
    torch.testing.assert_close(losses["loss_classifier"], classes / total, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses["loss_box_reg"], 2.0 * box / total, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses["loss_distance"], 0.25 * distance / total, rtol=1e-4, atol=1e-5)


def test_no_gradient_flows_through_the_assignment():
    model = detector()
    images, targets = batch()
    outputs = model.outputs(model.backbone.features(images)[1:])
    outputs = {name: x.detach().requires_grad_() for name, x in outputs.items()}
    losses = model.losses(outputs, targets)
    (losses["loss_box_reg"] + losses["loss_distance"]).backward()
    assert outputs["class_logits"].grad is None and outputs["bins"].grad.any()


def test_it_starts_with_few_strides_a_side_and_one_score_in_a_hundred():
    model = detector().eval()
    for head in model.heads:
        torch.nn.init.zeros_(head.bins.weight)
        torch.nn.init.zeros_(head.classes.weight)
    outputs = model.outputs(model.backbone.features(batch()[0])[1:])
    boxes, scores = model.boxes_and_scores(outputs)
    torch.testing.assert_close(scores, torch.full_like(scores, 0.01))
    in_strides = (boxes[..., 2:] - boxes[..., :2]) / outputs["strides"][:, None]
    expected = sum(k * math.exp(-0.4 * k) for k in range(16)) / sum(math.exp(-0.4 * k) for k in range(16))
    torch.testing.assert_close(in_strides, torch.full_like(in_strides, 2 * expected))


def test_sides_are_the_inverse_of_boxes():
    centres, strides = torch.tensor([[4.0, 4.0], [24.0, 8.0]]), torch.tensor([8.0, 16.0])
    boxes = torch.tensor([[-4.0, 0.0, 12.0, 20.0], [8.0, 0.0, 56.0, 24.0]])
    sides = sides_from(boxes, centres, strides)
    assert sides.tolist() == [[1, 0.5, 1, 2], [1, 0.5, 2, 1]]
    assert boxes_from(sides, centres, strides).equal(boxes)


def test_maps_whose_sides_are_odd_are_merged():
    model = detector()
    losses = model(torch.rand(2, 3, 72, 88), [(72, 88)] * 2, batch()[1])
    assert all(torch.isfinite(loss) for loss in losses.values())


@pytest.mark.parametrize("finest", [4, 8, 16])
def test_every_map_of_the_stride_and_more_is_a_level(finest):
    model = detector(finest_stride_px=finest)
    assert model.levels.strides == tuple(s for s in (4, 8, 16, 32) if s >= finest)
    assert len(model.heads) == len(model.levels.strides)
    assert all(torch.isfinite(loss) for loss in model(batch()[0], [(HEIGHT, WIDTH)] * 2, batch()[1]).values())


def test_perfect_outputs_have_no_box_loss():
    model = detector()
    images, targets = batch()
    outputs = model.outputs(model.backbone.features(images)[1:])
    centres, strides = outputs["centres"], outputs["strides"]
    bins = []
    for i in range(2):
        truth = targets[i]["boxes"]
        inside = ((centres[:, None] >= truth[:, :2]) & (centres[:, None] <= truth[:, 2:])).all(2)
        own = truth[inside.float().argmax(1)]
        sides = sides_from(own, centres, strides).clamp(0, 15)
        bins.append((1 - (sides[..., None] - torch.arange(16)).abs()).clamp(min=1e-9).log())
    losses = model.losses(outputs | {"bins": torch.stack(bins)}, targets)
    assert losses["loss_box_reg"] < 1e-3
    boxes, _ = model.boxes_and_scores(outputs | {"bins": torch.stack(bins)})
    at = ((centres - torch.tensor([28.0, 36.0])).abs() < 3).all(1)
    wanted = targets[0]["boxes"][:1].expand(int(at.sum()), 4)
    assert at.any() and complete_box_iou_loss(boxes[0, at], wanted).max() < 1e-4
    assert yolo._PRIOR == 0.01
