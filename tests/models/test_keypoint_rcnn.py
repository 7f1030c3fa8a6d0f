"""Keypoint R-CNN's head against torchvision's, and what it does with odd input."""

import pytest
import torch
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.roi_heads import keypointrcnn_inference, keypointrcnn_loss
from torchvision.ops import MultiScaleRoIAlign

from stages.models import backbones
from stages.models.keypoint_rcnn import KeypointRCNN
from stages.params.detectors import FasterRCNNParams
from stages.params.keypoints import KeypointHeadParams

HEIGHT, WIDTH, JOINTS = 96, 128, 5
BOXES = torch.tensor([[8.0, 10, 50, 60], [60, 20, 120, 90]])


def detector(num_classes=2, **head) -> KeypointRCNN:
    torch.manual_seed(0)
    params = FasterRCNNParams(
        fpn_channels=16, head_channels=16, anchor_sizes_px=(16, 32, 64, 128), rois_per_image=16, rpn_proposals_train=50,
        rpn_proposals_test=30,
    )  # fmt: skip
    head_params = KeypointHeadParams(**{"channels": 8, "layers": 2, **head})
    return KeypointRCNN(backbones.build("resnet18"), num_classes, JOINTS, params, head_params)


def targets() -> list[dict[str, torch.Tensor]]:
    torch.manual_seed(4)
    inside = BOXES[:, None, :2] + torch.rand(2, JOINTS, 2) * (BOXES[:, None, 2:] - BOXES[:, None, :2])
    keypoints = torch.cat([inside, torch.tensor([2.0, 1, 0, 2, 2]).expand(2, JOINTS)[..., None]], 2)
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    return [
        {"boxes": BOXES, "labels": torch.tensor([1, 2]), "keypoints": keypoints},
        none | {"keypoints": torch.zeros(0, JOINTS, 3)},
    ]


def images() -> tuple[torch.Tensor, list[tuple[int, int]]]:
    return torch.rand(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(2)), [(HEIGHT, WIDTH)] * 2


def head_and_torchvisions(model: KeypointRCNN):
    """Our head and, with its weights, torchvision's three parts; features of a pyramid of four levels."""
    head = model.roi_heads.object_head
    layers, predictor = KeypointRCNNHeads(16, (8, 8)), KeypointRCNNPredictor(8, JOINTS)
    layers.load_state_dict(head.layers.state_dict())
    predictor.load_state_dict(head.predictor.state_dict())
    pool = MultiScaleRoIAlign(["0", "1", "2", "3"], 14, 2)
    torch.manual_seed(5)
    pyramid = {str(i): torch.randn(2, 16, HEIGHT // s, WIDTH // s) for i, s in enumerate((4, 8, 16, 32))}

    def theirs(boxes):
        return predictor(layers(pool(pyramid, boxes, [(HEIGHT, WIDTH)] * 2)))

    return head, pyramid, theirs


def test_loss_equals_torchvisions():
    head, pyramid, theirs = head_and_torchvisions(detector())
    regions, matched = [BOXES + 2, BOXES[:0]], [torch.tensor([0, 1]), torch.zeros(0, dtype=torch.int64)]
    loss = head.losses(pyramid, regions, matched, targets())["loss_keypoint"]
    expected = keypointrcnn_loss(theirs(regions), regions, [t["keypoints"] for t in targets()], matched)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    assert loss > 0


@torch.no_grad()
def test_joints_equal_torchvisions():
    head, pyramid, theirs = head_and_torchvisions(detector())
    found = head.found(pyramid, [{"boxes": BOXES}, {"boxes": BOXES[:1]}])
    (first, second), _ = keypointrcnn_inference(theirs([BOXES, BOXES[:1]]), [BOXES, BOXES[:1]])
    torch.testing.assert_close(found[0]["keypoints"][..., :2], first[..., :2], rtol=1e-4, atol=1.5)
    torch.testing.assert_close(found[1]["keypoints"][..., :2], second[..., :2], rtol=1e-4, atol=1.5)
    scores = found[0]["keypoints"][..., 2]
    assert ((scores > 0) & (scores < 1)).all()


def test_an_image_without_persons_and_joints_without_label_train():
    model = detector()
    pixels, sizes = images()
    losses = model(pixels, sizes, targets())
    assert set(losses) == {"loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg", "loss_keypoint"}
    sum(losses.values()).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    blank = [t | {"keypoints": torch.zeros_like(t["keypoints"])} for t in targets()]
    assert model(pixels, sizes, blank)["loss_keypoint"] == 0
    nobody = model(pixels, sizes, [targets()[1]] * 2)
    assert all(torch.isfinite(loss) for loss in nobody.values())


@torch.no_grad()
def test_detections_have_joints_within_their_boxes():
    model = detector().eval()
    pixels, sizes = images()
    for found in model(pixels, sizes):
        assert found["keypoints"].shape == (len(found["boxes"]), JOINTS, 3)
        x, y = found["keypoints"][..., 0], found["keypoints"][..., 1]
        x1, y1, x2, y2 = (side[:, None] for side in found["boxes"].unbind(1))
        assert ((x >= x1) & (x <= x2 + 1) & (y >= y1) & (y <= y2 + 1)).all()


@torch.no_grad()
def test_nothing_found_has_no_joints():
    model = detector().eval()
    model.roi_heads.score_thresh = 1.1
    assert [found["keypoints"].shape for found in model(*images())] == [(0, JOINTS, 3)] * 2


def test_the_same_seed_gives_the_same_bits_and_bfloat16_keeps_joints_in_float32():
    def gradients():
        model = detector()
        torch.manual_seed(1)
        sum(model(*images(), targets()).values()).backward()
        return [p.grad for p in model.parameters()]

    assert all(a.equal(b) for a, b in zip(gradients(), gradients(), strict=True))
    model = detector().eval()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert model(*images())[0]["keypoints"].dtype == torch.float32


def test_head_sizes_are_in_range():
    with pytest.raises(ValueError, match="layers"):
        KeypointHeadParams(layers=0)
