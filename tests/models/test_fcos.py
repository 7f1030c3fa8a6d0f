"""FCOS against torchvision's own, with the same weights and the paper's locations."""

import pytest
import torch
import torchvision
from torchvision.models.detection.anchor_utils import AnchorGenerator

from stages.models import backbones
from stages.models.fcos import FCOS
from stages.params.detectors import FCOSParams

HEIGHT, WIDTH = 128, 192
STRIDES = (8, 16, 32, 64, 128)


def detector(**params) -> FCOS:
    torch.manual_seed(0)
    return FCOS(backbones.build("resnet18"), 3, FCOSParams(**{"fpn_channels": 32, "head_convs": 2, **params}))


def batch():
    images = torch.rand(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(2))
    targets = [
        {
            "boxes": torch.tensor([[8.0, 10, 50, 60], [60, 20, 180, 127], [70, 30, 100, 50]]),
            "labels": torch.tensor([1, 3, 2]),
        },
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


def torchvisions(model: FCOS, score_threshold: float) -> torchvision.models.detection.FCOS:
    generator = AnchorGenerator(tuple((s,) for s in STRIDES), ((1.0,),) * 5)
    # torchvision's locations are the corners of the cells; the paper's (section 3.1) are their centres.
    generator.cell_anchors = [cell + s / 2 for cell, s in zip(generator.cell_anchors, STRIDES, strict=True)]
    net = torchvision.models.detection.FCOS(
        Body(model),
        3,
        min_size=HEIGHT,
        max_size=WIDTH,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        anchor_generator=generator,
        head=model.head,
        score_thresh=score_threshold,
        nms_thresh=0.6,
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
    names = {"loss_classifier": "classification", "loss_box_reg": "bbox_regression", "loss_centerness": "bbox_ctrness"}
    assert set(losses) == set(names)
    for ours, theirs in names.items():
        torch.testing.assert_close(losses[ours], expected[theirs])


@torch.no_grad()
def test_detections_equal_torchvisions():
    model = detector(score_threshold=0.07, candidates=100_000).eval()
    images, sizes, _ = batch()
    for ours, theirs in zip(model(images, sizes), torchvisions(model, 0.07)(list(images)), strict=True):
        assert len(ours["boxes"]) == len(theirs["boxes"]) > 0
        for key, start in (("boxes", 0), ("scores", 0), ("labels", 1)):
            torch.testing.assert_close(ours[key][:20], theirs[key][:20] + start, rtol=1e-4, atol=1e-3)


def test_no_distance_starts_without_a_gradient():
    model = detector()
    outputs = model.outputs(model.backbone.features(batch()[0])[model.levels.first :])
    assert (outputs["bbox_regression"] > 0).all()


@pytest.mark.parametrize("num_levels", [2, 6])
def test_levels_must_fit_the_backbone(num_levels):
    with pytest.raises(ValueError, match=f"num_levels: {num_levels} levels, .* give 3 to 5 levels"):
        detector(num_levels=num_levels)
