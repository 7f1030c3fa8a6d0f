"""RetinaNet against torchvision's own, with the same weights."""

import pytest
import torch
import torchvision
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNetHead

from stages.models import backbones
from stages.models.pyramid import group_norm
from stages.models.retinanet import RetinaNet
from stages.params.detectors import RetinaNetParams

HEIGHT, WIDTH = 128, 192
SIZES_PX = (24.0, 48.0, 96.0, 128.0, 160.0)


def detector(**params) -> RetinaNet:
    torch.manual_seed(0)
    section = RetinaNetParams(**{"fpn_channels": 32, "anchor_sizes_px": SIZES_PX, **params})
    return RetinaNet(backbones.build("resnet18"), 3, section)


def batch():
    images = torch.rand(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(2))
    targets = [
        {"boxes": torch.tensor([[8.0, 10, 50, 60], [60, 20, 120, 90]]), "labels": torch.tensor([1, 3])},
        {"boxes": torch.tensor([[30.0, 5, 70, 45]]), "labels": torch.tensor([2])},
    ]
    return images, [(HEIGHT, WIDTH)] * 2, targets


class Body(torch.nn.Module):
    """Our backbone and neck, as torchvision's detector wants them."""

    def __init__(self, model) -> None:
        super().__init__()
        self.backbone, self.neck, self.first, self.out_channels = model.backbone, model.neck, model.levels.first, 32

    def forward(self, x):
        return {str(i): level for i, level in enumerate(self.neck(self.backbone.features(x)[self.first :]))}


def torchvisions(model: RetinaNet, score_threshold: float) -> torchvision.models.detection.RetinaNet:
    octave = [2 ** (k / 3) for k in range(3)]
    generator = AnchorGenerator(tuple(tuple(s * o for o in octave) for s in SIZES_PX), ((0.5, 1.0, 2.0),) * 5)
    head = RetinaNetHead(32, 9, 3, group_norm)
    head.load_state_dict(model.head.state_dict())
    head.regression_head._loss_type = "giou"
    net = torchvision.models.detection.RetinaNet(
        Body(model),
        3,
        min_size=HEIGHT,
        max_size=WIDTH,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        anchor_generator=generator,
        head=head,
        score_thresh=score_threshold,
        nms_thresh=0.5,
        detections_per_img=100,
    )
    return net.train(model.training)


def from_zero(targets):
    return [t | {"labels": t["labels"] - 1} for t in targets]


def test_losses_equal_torchvisions():
    model = detector()
    images, sizes, targets = batch()
    losses = model(images, sizes, targets)
    expected = torchvisions(model, 0.05)(list(images), from_zero(targets))
    torch.testing.assert_close(losses["loss_classifier"], expected["classification"])
    torch.testing.assert_close(losses["loss_box_reg"], expected["bbox_regression"])


@torch.no_grad()
def test_detections_equal_torchvisions():
    model = detector(score_threshold=0.012, candidates=100_000).eval()
    images, sizes, _ = batch()
    for ours, theirs in zip(model(images, sizes), torchvisions(model, 0.012)(list(images)), strict=True):
        assert len(ours["boxes"]) == len(theirs["boxes"]) > 0
        for key, start in (("boxes", 0), ("scores", 0), ("labels", 1)):
            torch.testing.assert_close(ours[key][:20], theirs[key][:20] + start, rtol=1e-4, atol=1e-3)


def test_an_object_that_fits_no_anchor_is_learned_by_the_nearest_alone():
    model = detector()
    outputs = model.outputs(model.backbone.features(batch()[0])[model.levels.first :])
    match = model._match(torch.tensor([[40.0, 40.0, 190.0, 44.0]]), outputs["anchors"])
    assert 1 <= (match == 0).sum() < len(match) // 50  # ties along the box
    nowhere = model._match(torch.tensor([[9000.0, 40.0, 9020.0, 44.0], [8.0, 8.0, 56.0, 56.0]]), outputs["anchors"])
    assert not (nowhere == 0).any() and (nowhere == 1).any()


@pytest.mark.parametrize("sizes", [(24.0, 48.0), (8.0, 16.0, 32.0, 64.0, 128.0, 256.0)])
def test_anchor_sizes_must_fit_the_levels(sizes):
    with pytest.raises(ValueError, match=f"anchor_sizes_px: {len(sizes)} levels, .* give 3 to 5 levels"):
        detector(anchor_sizes_px=sizes)
