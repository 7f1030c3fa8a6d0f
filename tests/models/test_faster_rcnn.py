"""Faster R-CNN against torchvision's own, and what it does with odd input."""

import pytest
import torch
import torchvision
from torchvision.models.detection import roi_heads
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign, box_iou
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from stages.models import backbones
from stages.models.faster_rcnn import FasterRCNN, box_head_losses
from stages.params.detectors import FasterRCNNParams

HEIGHT, WIDTH = 128, 192
SIZES_PX = (16.0, 32.0, 64.0, 96.0, 128.0)
NO_BOXES = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


def detector(arch: str = "resnet18", num_classes: int = 3, smoothing=0.0, dropout=0.0, **params) -> FasterRCNN:
    torch.manual_seed(0)
    small = {"fpn_channels": 32, "head_channels": 32, "anchor_sizes_px": SIZES_PX, "rpn_proposals_train": 100}
    section = FasterRCNNParams(**{**small, "rois_per_image": 32, **params})
    return FasterRCNN(backbones.build(arch), num_classes, section, smoothing, dropout)


def target(*rows: tuple[float, float, float, float, int]) -> dict[str, torch.Tensor]:
    return {"boxes": torch.tensor([r[:4] for r in rows]), "labels": torch.tensor([r[4] for r in rows])}


def batch() -> tuple[torch.Tensor, list[tuple[int, int]], list[dict[str, torch.Tensor]]]:
    images = torch.rand(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(2))
    targets = [target((8, 10, 50, 60, 1), (60, 20, 120, 90, 3)), target((30.0, 5.0, 70.0, 45.0, 2))]
    return images, [(HEIGHT, WIDTH)] * 2, targets


class Body(torch.nn.Module):
    """ResNet18 and FPN, as torchvision's detector wants its backbone."""

    def __init__(self) -> None:
        super().__init__()
        net = torchvision.models.resnet18()
        self.body = torch.nn.ModuleDict({name: child for name, child in net.named_children() if name != "fc"})
        self.fpn = FeaturePyramidNetwork([64, 128, 256, 512], 32, LastLevelMaxPool())
        self.out_channels = 32

    def forward(self, x):
        maps = {}
        for name, layer in self.body.items():
            if name != "avgpool":
                x = layer(x)
                maps |= {name: x} if name.startswith("layer") else {}
        return self.fpn({str(i): level for i, level in enumerate(maps.values())})


def torchvisions(model: FasterRCNN) -> torchvision.models.detection.FasterRCNN:
    """torchvision's whole detector, transform included, with our weights."""
    net = torchvision.models.detection.FasterRCNN(
        Body(),
        num_classes=None,
        min_size=HEIGHT,
        max_size=WIDTH,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        rpn_anchor_generator=AnchorGenerator(tuple((s,) for s in SIZES_PX), ((0.5, 1.0, 2.0),) * 5),
        rpn_pre_nms_top_n_train=100,
        rpn_post_nms_top_n_train=100,
        rpn_pre_nms_top_n_test=500,
        rpn_post_nms_top_n_test=500,
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2),
        box_head=torchvision.models.detection.faster_rcnn.TwoMLPHead(32 * 49, 32),
        box_predictor=torchvision.models.detection.faster_rcnn.FastRCNNPredictor(32, 4),
        box_batch_size_per_image=32,
    )
    names = {"backbone.net.": "backbone.body.", "fpn.": "backbone.fpn."}
    state = {}
    for name, tensor in model.state_dict().items():
        prefix = next((p for p in names if name.startswith(p)), "")
        state[names.get(prefix, "") + name.removeprefix(prefix)] = tensor.clone()
    net.load_state_dict(state, strict=True)
    # It draws one of its one sizes at random, and so moves the generator that samples anchors.
    net.transform.torch_choice = lambda sizes: sizes[0]
    return net.train(model.training)


def test_losses_equal_torchvisions():
    model = detector()
    net = torchvisions(model)
    images, sizes, targets = batch()
    torch.manual_seed(3)
    losses = model(images, sizes, targets)
    torch.manual_seed(3)
    expected = net(list(images), targets)
    assert set(losses) == set(expected)
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_detections_equal_torchvisions():
    model = detector().eval()
    images, sizes, _ = batch()
    for ours, theirs in zip(model(images, sizes), torchvisions(model)(list(images)), strict=True):
        assert len(ours["boxes"]) == len(theirs["boxes"]) > 0
        for key in ("boxes", "scores", "labels"):
            # Further down an untrained network's scores are so close that rounding changes their order.
            torch.testing.assert_close(ours[key][:40], theirs[key][:40], rtol=1e-3, atol=1e-2)


def test_box_losses_equal_torchvisions_and_smoothing_is_applied():
    torch.manual_seed(0)
    logits, regression = torch.randn(6, 4), torch.randn(6, 16)
    labels, deltas = [torch.tensor([0, 1, 3]), torch.tensor([0, 2, 0])], [torch.randn(3, 4), torch.randn(3, 4)]
    plain = box_head_losses(logits, regression, labels, deltas, 0.0)
    expected = roi_heads.fastrcnn_loss(logits, regression, labels, deltas)
    torch.testing.assert_close(tuple(plain.values()), expected)
    smooth = box_head_losses(logits, regression, labels, deltas, 0.2)
    log_p = logits.log_softmax(1)
    by_hand = -(0.8 * log_p[torch.arange(6), torch.cat(labels)] + 0.2 * log_p.mean(1)).mean()
    torch.testing.assert_close(smooth["loss_classifier"], by_hand)
    torch.testing.assert_close(smooth["loss_box_reg"], plain["loss_box_reg"])


def test_smoothing_and_dropout_reach_the_box_head():
    images, sizes, targets = batch()
    losses = []
    for smoothing, dropout in ((0.0, 0.0), (0.3, 0.0), (0.0, 0.9)):
        model = detector(smoothing=smoothing, dropout=dropout)
        torch.manual_seed(1)
        losses.append(model(images, sizes, targets))
    for other in losses[1:]:
        assert other["loss_classifier"] != losses[0]["loss_classifier"]
        assert other["loss_box_reg"] == losses[0]["loss_box_reg"]
        assert other["loss_objectness"] == losses[0]["loss_objectness"]


@pytest.mark.parametrize("targets", [[NO_BOXES, NO_BOXES], [NO_BOXES, target((3.0, 3.0, 60.0, 70.0, 1))]])
def test_images_without_boxes_train(targets):
    model = detector()
    images, sizes, _ = batch()
    losses = model(images, sizes, targets)
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_box_losses_without_any_region_are_finite():
    none = [torch.zeros(0, dtype=torch.int64)], [torch.zeros(0, 4)]
    losses = box_head_losses(torch.zeros(0, 4), torch.zeros(0, 16), *none, 0.1)
    assert [loss.item() for loss in losses.values()] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("arch", "params"),
    [
        ("resnet18", {}),
        ("resnet18", {"finest_stride_px": 8, "anchor_sizes_px": SIZES_PX[:4]}),
        ("resnet18", {"finest_stride_px": 16, "anchor_sizes_px": SIZES_PX[:2]}),
        ("googlenet", {}),
        ("inception_v3", {}),
    ],
)
def test_gradients_reach_every_parameter(arch, params):
    model = detector(arch, **params)
    sum(model(*batch()).values()).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def test_vgg_leaves_its_hidden_layers_behind():
    model = detector("vgg11")
    assert not [name for name in model.state_dict() if "classifier" in name]
    sum(model(*batch()).values()).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_same_seed_gives_the_same_bits():
    def losses_and_gradients():
        model = detector(dropout=0.5)
        losses = model(*batch())
        sum(losses.values()).backward()
        return [*losses.values(), *(p.grad for p in model.parameters())]

    first, second = losses_and_gradients(), losses_and_gradients()
    assert all(a.equal(b) for a, b in zip(first, second, strict=True))


def test_bfloat16_keeps_boxes_in_float32():
    model = detector()
    images, sizes, targets = batch()
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(images, sizes, targets)
        found = model.eval()(images, sizes)
    assert all(loss.dtype == torch.float32 and torch.isfinite(loss) for loss in losses.values())
    boxes = found[0]["boxes"]
    assert boxes.dtype == found[0]["scores"].dtype == torch.float32
    assert not boxes.equal(boxes.bfloat16().float())


@torch.no_grad()
def test_detections_stay_inside_the_content_and_the_batch_before_does_not_matter():
    images, sizes, _ = batch()
    model = detector().eval()
    expected = model(images, sizes)
    model = detector().eval()
    found = model(images, [(40, 50), (HEIGHT, 30)])
    limits = (torch.tensor([50, 40, 50, 40]), torch.tensor([30, HEIGHT, 30, HEIGHT]))
    assert all((d["boxes"] <= limit).all() and len(d["boxes"]) for d, limit in zip(found, limits, strict=True))
    for a, b in zip(model(images, sizes), expected, strict=True):
        assert a["boxes"].equal(b["boxes"])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"anchor_sizes_px": (8.0, 16.0, 32.0)}, "3 levels, but resnet18 has 4 feature maps of stride 4 and more"),
        ({"finest_stride_px": 16}, "5 levels, but resnet18 has 2 feature maps .* give 2 to 3 levels"),
    ],
)
def test_anchor_sizes_must_fit_the_levels(params, message):
    with pytest.raises(ValueError, match=message):
        detector(**params)


def test_small_stem_has_two_levels_of_stride_four_and_more():
    torch.manual_seed(0)
    params = FasterRCNNParams(fpn_channels=16, head_channels=16, anchor_sizes_px=(16, 32, 64), rois_per_image=16)
    model = FasterRCNN(backbones.build("resnet18", stem="small"), 2, params)
    losses = model(torch.rand(1, 3, 64, 64), [(64, 64)], [target((8.0, 10.0, 50.0, 60.0, 1))])
    assert all(torch.isfinite(loss) for loss in losses.values())


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (None, "targets are missing"),
        ([NO_BOXES, target((9.0, 9.0, 9.0, 20.0, 1))], r"image 1 of the batch has a box without area, .*\[9.0, 9.0"),
    ],
)
def test_bad_targets_are_named(targets, message):
    images, sizes, _ = batch()
    with pytest.raises(ValueError, match=message):
        detector()(images, sizes, targets)


def drawn() -> tuple[torch.Tensor, list[tuple[int, int]], list[dict[str, torch.Tensor]]]:
    """Two canvases with coloured rectangles; the second's content is 64 x 96 px."""
    targets = [
        target((8.0, 10.0, 40.0, 52.0, 1), (50.0, 40.0, 90.0, 80.0, 2)),
        target((20.0, 8.0, 70.0, 36.0, 2), (4.0, 30.0, 36.0, 60.0, 1)),
    ]
    images = torch.full((2, 3, 96, 96), -1.0)
    images[1, :, 64:] = 0
    for image, rows in zip(images, targets, strict=True):
        for (x1, y1, x2, y2), label in zip(rows["boxes"].int().tolist(), rows["labels"].tolist(), strict=True):
            image[label - 1, y1:y2, x1:x2] = 2.0
    return images, [(96, 96), (64, 96)], targets


def test_learns_two_pictures_by_heart():
    images, sizes, targets = drawn()
    levels = {"finest_stride_px": 8, "anchor_sizes_px": (32.0, 48.0, 64.0)}
    head = {"fpn_channels": 64, "head_channels": 128, "rois_per_image": 64, "roi_positive_share": 0.5}
    model = detector(num_classes=2, **levels, **head)
    steps = 70
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-3, total_steps=steps)
    for _ in range(steps):
        optimizer.zero_grad()
        sum(model(images, sizes, targets).values()).backward()
        optimizer.step()
        schedule.step()
    for found, wanted in zip(model.eval()(images, sizes), targets, strict=True):
        best, which = box_iou(wanted["boxes"], found["boxes"][:2]).max(dim=1)
        assert best.min() > 0.7 and best.mean() > 0.85
        assert found["scores"][:2].min() > 0.8
        assert found["labels"][which].equal(wanted["labels"])
