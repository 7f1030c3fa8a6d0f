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

SIZES_PX = (24.0, 48.0, 96.0, 128.0, 160.0)


def detector(**params) -> RetinaNet:
    torch.manual_seed(0)
    section = RetinaNetParams(**{"fpn_channels": 32, "anchor_sizes_px": SIZES_PX, **params})
    return RetinaNet(backbones.build("resnet18"), 3, section)


def torchvisions(around, model: RetinaNet, score_threshold: float) -> torch.nn.Module:
    octave = [2 ** (k / 3) for k in range(3)]
    generator = AnchorGenerator(tuple(tuple(s * o for o in octave) for s in SIZES_PX), ((0.5, 1.0, 2.0),) * 5)
    head = RetinaNetHead(32, 9, 3, group_norm)
    head.load_state_dict(model.head.state_dict())
    head.regression_head._loss_type = "giou"
    return around(
        torchvision.models.detection.RetinaNet,
        model,
        anchor_generator=generator,
        head=head,
        score_thresh=score_threshold,
        nms_thresh=0.5,
    )


def test_losses_equal_torchvisions(around, pair):
    model = detector()
    images, sizes, targets = pair
    losses = model(images, sizes, targets)
    expected = torchvisions(around, model, 0.05)(images, targets)
    torch.testing.assert_close(losses["loss_classifier"], expected["classification"])
    torch.testing.assert_close(losses["loss_box_reg"], expected["bbox_regression"])


@torch.no_grad()
def test_detections_equal_torchvisions(around, pair):
    model = detector(score_threshold=0.012, candidates=100_000).eval()
    images, sizes, _ = pair
    for ours, theirs in zip(model(images, sizes), torchvisions(around, model, 0.012)(images), strict=True):
        assert len(ours["boxes"]) == len(theirs["boxes"]) > 0
        for key in ("boxes", "scores", "labels"):
            torch.testing.assert_close(ours[key][:20], theirs[key][:20], rtol=1e-4, atol=1e-3)


def test_an_object_that_fits_no_anchor_is_learned_by_the_nearest_alone(pair):
    model = detector()
    outputs = model.outputs(model.backbone.features(pair[0])[model.levels.first :])
    match = model._match(torch.tensor([[40.0, 40.0, 190.0, 44.0]]), outputs["anchors"])
    assert 1 <= (match == 0).sum() < len(match) // 50  # ties along the box
    nowhere = model._match(torch.tensor([[9000.0, 40.0, 9020.0, 44.0], [8.0, 8.0, 56.0, 56.0]]), outputs["anchors"])
    assert not (nowhere == 0).any() and (nowhere == 1).any()


@pytest.mark.parametrize("sizes", [(24.0, 48.0), (8.0, 16.0, 32.0, 64.0, 128.0, 256.0)])
def test_anchor_sizes_must_fit_the_levels(sizes):
    with pytest.raises(ValueError, match=f"anchor_sizes_px: {len(sizes)} levels, .* give 3 to 5 levels"):
        detector(anchor_sizes_px=sizes)
