"""SSD against torchvision's own, with the same weights."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator

from stages.models import backbones
from stages.models.ssd import SSD, box_shapes
from stages.params.detectors import SSDParams

SIDE = 128
SIZES_PX = (16.0, 32.0, 64.0, 96.0, 112.0, 128.0)


def detector(smoothing=0.0, **params) -> SSD:
    torch.manual_seed(0)
    section = SSDParams(**{"anchor_sizes_px": SIZES_PX, "added_channels": 32, **params})
    return SSD(backbones.build("resnet18"), 3, section, smoothing)


def batch():
    images = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    targets = [
        {"boxes": torch.tensor([[8.0, 10, 50, 60], [60, 20, 120, 90]]), "labels": torch.tensor([1, 3])},
        {"boxes": torch.tensor([[30.0, 5, 70, 45]]), "labels": torch.tensor([2])},
    ]
    return images, [(SIDE, SIDE)] * 2, targets


class Body(torch.nn.Module):
    """Our backbone, first norm and added levels, as torchvision's detector wants them."""

    def __init__(self, model) -> None:
        super().__init__()
        self.model = model

    def forward(self, x):
        maps = self.model.backbone.features(x)[self.model.levels.first :]
        levels = [F.normalize(maps[0]) * self.model.first_norm, *maps[1:]]
        for layer in self.model.added:
            levels.append(layer(levels[-1]))
        return {str(i): level for i, level in enumerate(levels)}


def generator() -> DefaultBoxGenerator:
    scales = [size / SIDE for size in SIZES_PX]
    return DefaultBoxGenerator([[2, 3]] * 5, scales=scales, steps=[8, 16, 32, 64, 128], clip=False)


def torchvisions(model: SSD) -> torchvision.models.detection.ssd.SSD:
    net = torchvision.models.detection.ssd.SSD(
        Body(model),
        generator(),
        (SIDE, SIDE),
        4,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        head=model.head,
        score_thresh=0.01,
        nms_thresh=0.45,
        detections_per_img=100,
        topk_candidates=100_000,
    )
    return net.train(model.training)


def test_losses_equal_torchvisions():
    model = detector()
    images, sizes, targets = batch()
    losses = model(images, sizes, targets)
    expected = torchvisions(model)(list(images), targets)
    torch.testing.assert_close(losses["loss_classifier"], expected["classification"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(losses["loss_box_reg"], expected["bbox_regression"], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_detections_equal_torchvisions():
    model = detector(candidates=100_000).eval()
    images, sizes, _ = batch()
    for ours, theirs in zip(model(images, sizes), torchvisions(model)(list(images)), strict=True):
        assert len(ours["boxes"]) == len(theirs["boxes"]) > 0
        for key in ("boxes", "scores", "labels"):
            torch.testing.assert_close(ours[key][:20], theirs[key][:20], rtol=1e-4, atol=1e-3)


def test_default_boxes_equal_torchvisions_on_a_square_canvas():
    model = detector()
    levels = [torch.zeros(1, 1, n, n) for n in (16, 8, 4, 2, 1)]
    image = torchvision.models.detection.image_list.ImageList(torch.zeros(1, 3, SIDE, SIDE), [(SIDE, SIDE)])
    torch.testing.assert_close(model.default_boxes(levels), generator()(image, levels)[0])


def test_default_boxes_keep_their_shape_on_an_oblong_canvas():
    model = detector()
    boxes = model.default_boxes([torch.zeros(1, 1, 8 // s, 16 // s) for s in (1, 2, 4)] + [torch.zeros(1, 1, 1, 1)] * 2)
    first = boxes[:6, 2:] - boxes[:6, :2]
    torch.testing.assert_close(first, torch.tensor(box_shapes(16.0, 32.0, (2.0, 3.0))))
    assert boxes[0].tolist() == [-4, -4, 12, 12]


def test_box_shapes_by_hand():
    shapes = box_shapes(16.0, 36.0, (4.0,))
    assert shapes == [(16, 16), (24, 24), (32, 8), (8, 32)]


def test_smoothing_reaches_the_class_loss_only():
    images, sizes, targets = batch()
    plain, smooth = detector()(images, sizes, targets), detector(0.3)(images, sizes, targets)
    assert smooth["loss_classifier"] != plain["loss_classifier"]
    assert smooth["loss_box_reg"] == plain["loss_box_reg"]


def test_every_object_has_a_box_that_learns_it():
    model = detector()
    anchors = model.outputs(model.backbone.features(batch()[0])[model.levels.first :])["anchors"]
    labels, deltas = model._match(
        {"boxes": torch.tensor([[3.0, 3.0, 6.0, 5.0], [0.0, 60.0, 128.0, 66.0]]), "labels": torch.tensor([2, 3])},
        anchors,
    )
    assert (labels == 2).any() and (labels == 3).any() and torch.isfinite(deltas).all()


@pytest.mark.parametrize("sizes", [(24.0, 48.0, 96.0), tuple(16.0 + i for i in range(11))])
def test_anchor_sizes_must_fit_the_levels(sizes):
    with pytest.raises(ValueError, match=f"anchor_sizes_px: {len(sizes) - 1} levels, .* give 3 to 9 levels"):
        detector(anchor_sizes_px=sizes)
