"""Mask R-CNN against torchvision's parts, and what it does with odd input."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.models.detection import roi_heads
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign, roi_align

from stages.models import backbones
from stages.models.faster_rcnn import FasterRCNN
from stages.models.mask_rcnn import MaskRCNN, PlacedMask, masks_in_regions
from stages.params.detectors import FasterRCNNParams
from stages.params.instance_segmentation import MaskHeadParams

HEIGHT, WIDTH = 96, 128
PARAMS = FasterRCNNParams(
    fpn_channels=16, head_channels=32, anchor_sizes_px=(16, 32, 64, 96), rois_per_image=16,
    rpn_proposals_train=50, rpn_proposals_test=40, max_detections=10, score_threshold=0.0,
)  # fmt: skip
HEAD = MaskHeadParams(channels=16, layers=2, roi_cells=7)


def model(num_classes: int = 2, **changes) -> MaskRCNN:
    torch.manual_seed(0)
    return MaskRCNN(backbones.build("resnet18"), num_classes, PARAMS, HEAD.model_copy(update=changes))


def ellipse(x1: int, y1: int, x2: int, y2: int) -> PlacedMask:
    y, x = torch.meshgrid(torch.arange(y1, y2) + 0.5, torch.arange(x1, x2) + 0.5, indexing="ij")
    inside = ((x - (x1 + x2) / 2) / (x2 - x1)) ** 2 + ((y - (y1 + y2) / 2) / (y2 - y1)) ** 2 <= 0.25
    return inside.to(torch.uint8), x1, y1


def target(*rows: tuple[int, int, int, int, int]) -> dict:
    boxes = torch.tensor([row[:4] for row in rows], dtype=torch.float32).reshape(-1, 4)
    labels = torch.tensor([row[4] for row in rows], dtype=torch.int64)
    return {"boxes": boxes, "labels": labels, "masks": [ellipse(*row[:4]) for row in rows]}


def batch() -> tuple[torch.Tensor, list[tuple[int, int]], list[dict]]:
    images = torch.rand(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(2))
    return images, [(HEIGHT, WIDTH)] * 2, [target((8, 10, 50, 60, 1), (60, 20, 120, 90, 2)), target((30, 5, 70, 45, 2))]


def on_canvas(masks: list[PlacedMask]) -> torch.Tensor:
    canvases = torch.zeros(len(masks), HEIGHT, WIDTH)
    for canvas, (pixels, left, top) in zip(canvases, masks, strict=True):
        canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return canvases


def test_regions_see_what_they_would_on_whole_canvases():
    masks = [ellipse(8, 10, 50, 60), ellipse(60, 20, 120, 90), ellipse(100, 5, 110, 8)]
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(40, 2, generator=generator) * torch.tensor([WIDTH - 20, HEIGHT - 20])
    boxes = torch.cat([corner, corner + 1 + torch.rand(40, 2, generator=generator) * 19], 1)
    matched = torch.randint(0, 3, (40,), generator=generator)
    found = masks_in_regions(masks, boxes, matched, 14)
    regions = torch.cat([matched[:, None].float(), boxes], 1)
    expected = roi_align(on_canvas(masks)[:, None], regions, (14, 14), aligned=True)[:, 0]
    torch.testing.assert_close(found, expected)
    # A half pixel further, these are torchvision's own targets.
    theirs = roi_heads.project_masks_on_boxes(on_canvas(masks), boxes - 0.5, matched, 14)
    torch.testing.assert_close(found, theirs, atol=1e-5, rtol=1e-5)


def test_a_region_that_is_the_object_gets_its_mask():
    mask = ellipse(10, 20, 38, 48)
    found = masks_in_regions([mask], torch.tensor([[10.0, 20.0, 38.0, 48.0]]), torch.tensor([0]), 28)
    assert ((found[0] > 0.5) == mask[0].bool()).all()


def test_loss_equals_torchvisions_with_its_head():
    ours = model().roi_heads.object_head
    maps = {str(i): torch.randn(2, 16, HEIGHT // s, WIDTH // s) for i, s in enumerate((4, 8, 16, 32))}
    _, sizes, targets = batch()
    regions = [targets[0]["boxes"] + torch.tensor([1.0, -2, 3, 1]), targets[1]["boxes"]]
    matched = [torch.tensor([0, 1]), torch.tensor([0])]
    pool = MultiScaleRoIAlign(list("0123"), 7, 2)
    layers, predictor = MaskRCNNHeads(16, (16, 16), 1), MaskRCNNPredictor(16, 16, 3)
    layers.load_state_dict(ours.layers.state_dict())
    predictor.load_state_dict(ours.predictor.state_dict())
    # The scales that it infers from the sizes are those of maps that cover the image.
    logits = predictor(layers(pool(maps, regions, sizes)))
    expected = roi_heads.maskrcnn_loss(
        logits, [r - 0.5 for r in regions], [on_canvas(t["masks"]) for t in targets],
        [t["labels"] for t in targets], matched,
    )  # fmt: skip
    (loss,) = ours.losses(maps, regions, matched, targets).values()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)


def test_all_else_is_faster_rcnn():
    images, sizes, targets = batch()
    with_masks = model()
    torch.manual_seed(0)
    without = FasterRCNN(backbones.build("resnet18"), 2, PARAMS)
    without.load_state_dict({k: v for k, v in with_masks.state_dict().items() if "object_head" not in k})
    losses = []
    for net in (with_masks, without):
        torch.manual_seed(1)
        losses.append(net(images, sizes, targets))
    assert losses[0].keys() - losses[1].keys() == {"loss_mask"}
    assert all(losses[0][name].equal(loss) for name, loss in losses[1].items())
    with torch.no_grad():
        found, plain = with_masks.eval()(images, sizes), without.eval()(images, sizes)
    assert all(a[key].equal(b[key]) for a, b in zip(found, plain, strict=True) for key in b)


def test_found_masks_are_those_of_the_head_for_the_own_class():
    images, sizes, _ = batch()
    net = model().eval()
    with torch.no_grad():
        found = net(images, sizes)
        maps = net.fpn({str(i): x for i, x in enumerate(net.backbone.features(images))})
        head = net.roi_heads.object_head
        logits = head.predictor(head.layers(head.pool(dict(maps), [f["boxes"] for f in found], [])))
    labels = torch.cat([f["labels"] for f in found])
    expected = logits.sigmoid()[torch.arange(len(labels)), labels]
    masks = torch.cat([f["masks"] for f in found])
    assert masks.shape == (len(labels), 14, 14) and len(labels) > 10
    torch.testing.assert_close(masks, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_masks", [0, 1])
def test_objects_without_a_mask_train_their_boxes_alone(num_masks: int):
    images, sizes, targets = batch()
    for place in range(num_masks, 2):
        targets[0]["masks"][place] = None
    targets[1]["masks"] = [None]
    net = model()
    losses = net(images, sizes, targets)
    sum(losses.values()).backward()
    assert (losses["loss_mask"] > 0) == bool(num_masks)
    head = [p.grad for p in net.roi_heads.object_head.parameters()]
    assert all(torch.isfinite(grad).all() for grad in head)
    assert any(grad.any() for grad in head) == bool(num_masks)
    assert losses["loss_box_reg"] > 0


def test_images_without_objects_train_and_answer():
    net = model()
    images, sizes, _ = batch()
    losses = net(images, sizes, [target(), target()])
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(p.grad is not None for p in net.parameters())
    net.roi_heads.score_thresh = 1.1
    with torch.no_grad():
        assert [f["masks"].shape for f in net.eval()(images, sizes)] == [(0, 14, 14)] * 2


def test_more_regions_than_go_through_the_head_at_once(monkeypatch: pytest.MonkeyPatch):
    images, sizes, _ = batch()
    net = model().eval()
    with torch.no_grad():
        whole = net(images, sizes)
        monkeypatch.setattr("stages.models.mask_rcnn._REGIONS_AT_ONCE", 3)
        parts = net(images, sizes)
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a["masks"], b["masks"])


def test_the_same_seed_gives_the_same_bits():
    def losses_and_gradients():
        net = model()
        losses = net(*batch())
        sum(losses.values()).backward()
        return [*losses.values(), *(p.grad for p in net.parameters())]

    assert all(a.equal(b) for a, b in zip(losses_and_gradients(), losses_and_gradients(), strict=True))


def test_bfloat16_keeps_masks_in_float32():
    net = model()
    images, sizes, targets = batch()
    with torch.autocast("cpu", torch.bfloat16):
        loss = net(images, sizes, targets)["loss_mask"]
        found = net.eval()(images, sizes)
    assert loss.dtype == found[0]["masks"].dtype == torch.float32


def test_learns_the_shape_of_an_object():
    """An ellipse, not its box, whose intersection over union with it is only 0.785."""
    torch.manual_seed(0)
    truth = target((8, 8, 56, 56, 1))
    images = torch.full((1, 3, 64, 64), -1.0)
    images[0, :, 8:56, 8:56][:, truth["masks"][0][0].bool()] = 2.0
    net = model(1, channels=32)
    net.backbone.requires_grad_(False)  # what random layers see of it is enough
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], 2e-3)
    for _ in range(25):
        optimizer.zero_grad()
        sum(net(images, [(64, 64)], [truth]).values()).backward()
        optimizer.step()
    with torch.no_grad():  # the head that training saw: batch norms have not settled
        maps = net.fpn({str(i): x for i, x in enumerate(net.backbone.features(images))})
        cells = net.roi_heads.object_head(dict(maps), [truth["boxes"]], truth["labels"]).sigmoid()
    drawn = F.interpolate(cells[None], (48, 48), mode="bilinear")[0, 0] > 0.5
    wanted = truth["masks"][0][0].bool()
    assert (drawn & wanted).sum() / (drawn | wanted).sum() > 0.9
