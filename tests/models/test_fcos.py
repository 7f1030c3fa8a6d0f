"""FCOS against torchvision's own, with the same weights and the paper's locations."""

import pytest
import torch
import torchvision
from torchvision.models.detection.anchor_utils import AnchorGenerator

from stages.models import backbones
from stages.models.fcos import FCOS
from stages.params.detectors import FCOSParams

STRIDES = (8, 16, 32, 64, 128)


def detector(**params) -> FCOS:
    torch.manual_seed(0)
    return FCOS(backbones.build("resnet18"), 3, FCOSParams(**{"fpn_channels": 32, "head_convs": 2, **params}))


def torchvisions(around, model: FCOS, score_threshold: float) -> torch.nn.Module:
    generator = AnchorGenerator(tuple((s,) for s in STRIDES), ((1.0,),) * 5)
    # torchvision's locations are the corners of the cells; the paper's (section 3.1) are their centres.
    generator.cell_anchors = [cell + s / 2 for cell, s in zip(generator.cell_anchors, STRIDES, strict=True)]
    return around(
        torchvision.models.detection.FCOS,
        model,
        anchor_generator=generator,
        head=model.head,
        score_thresh=score_threshold,
        nms_thresh=0.6,
    )


def test_losses_equal_torchvisions(around, pair):
    model = detector()
    images, sizes, targets = pair
    losses = model(images, sizes, targets)
    expected = torchvisions(around, model, 0.05)(images, targets)
    names = {"loss_classifier": "classification", "loss_box_reg": "bbox_regression", "loss_centerness": "bbox_ctrness"}
    assert set(losses) == set(names)
    for ours, theirs in names.items():
        torch.testing.assert_close(losses[ours], expected[theirs])


@torch.no_grad()
def test_detections_equal_torchvisions(around, pair):
    model = detector(score_threshold=0.07, candidates=100_000).eval()
    images, sizes, _ = pair
    for ours, theirs in zip(model(images, sizes), torchvisions(around, model, 0.07)(images), strict=True):
        assert len(ours["boxes"]) == len(theirs["boxes"]) > 0
        for key in ("boxes", "scores", "labels"):
            torch.testing.assert_close(ours[key][:20], theirs[key][:20], rtol=1e-4, atol=1e-3)


def test_no_distance_starts_without_a_gradient(pair):
    model = detector()
    outputs = model.outputs(model.backbone.features(pair[0])[model.levels.first :])
    assert (outputs["bbox_regression"] > 0).all()


@pytest.mark.parametrize("num_levels", [2, 6])
def test_levels_must_fit_the_backbone(num_levels):
    with pytest.raises(ValueError, match=f"num_levels: {num_levels} levels, .* give 3 to 5 levels"):
        detector(num_levels=num_levels)
