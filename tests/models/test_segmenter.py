"""Segmentation architectures: sizes, strides, and heads against torchvision's own networks."""

import pytest
import torch
from torch import nn
from torchvision.models.segmentation import deeplabv3_resnet50
from torchvision.models.segmentation.fcn import FCNHead

from stages.models import backbones, deeplabv3, fcn, lraspp
from stages.models.dilation import dilate
from stages.models.segmenter import upsampled
from stages.params.segmentation import DeepLabV3Params, FCNParams, LRASPPParams

BUILD = {
    "fcn": lambda backbone, auxiliary: fcn.build(backbone, 5, FCNParams(), 0.0, auxiliary),
    "deeplabv3": lambda backbone, auxiliary: deeplabv3.build(backbone, 5, DeepLabV3Params(), 0.0, auxiliary),
    "lraspp": lambda backbone, auxiliary: lraspp.build(backbone, 5, LRASPPParams(channels=16), 0.0, auxiliary),
}


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def settled(model):
    """Weights and statistics that tell layers apart."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
    return model.eval()


@pytest.mark.parametrize(
    ("arch", "size"), [("fcn", (64, 96)), ("fcn", (70, 50)), ("deeplabv3", (70, 50)), ("lraspp", (70, 50))]
)
def test_scores_have_the_size_of_the_images(arch, size):
    model = BUILD[arch](backbones.build("resnet18"), True)
    images = torch.randn(2, 3, *size)
    training = model.train()(images)
    assert training.main.shape == training.auxiliary.shape == (2, 5, *size)
    with torch.no_grad():
        scores = model.eval()(images)
    assert scores.main.dtype == torch.float32 and scores.auxiliary is None
    assert BUILD[arch](backbones.build("resnet18"), False).auxiliary is None


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_a_dilated_network_gives_the_former_values_on_a_finer_grid(arch, output_stride):
    """What the method promises (Chen et al. 2017): nothing is learned anew, the map is only sampled more densely."""
    plain = settled(backbones.build(arch))
    dense = backbones.build(arch)
    dense.load_state_dict(plain.state_dict())
    dilate(dense.eval(), output_stride)
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        coarse, fine = plain.features(images), dense.features(images)
    assert dense.strides == tuple(min(stride, output_stride) for stride in plain.strides)
    for before, after, old, new in zip(coarse, fine, plain.strides, dense.strides, strict=True):
        atol = 1e-5 * float(before.abs().max())  # sums in another order
        torch.testing.assert_close(after[..., :: old // new, :: old // new], before, rtol=1e-4, atol=atol)


def test_dilation_is_torchvisions_where_it_has_it():
    theirs = settled(deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=5))  # output stride 8
    ours = backbones.build("resnet50").eval()
    ours.net.load_state_dict(theirs.backbone.state_dict(), strict=False)
    dilate(ours, 8)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours.features(images)[-1], theirs.backbone(images)["out"])


def test_deeplab_and_its_auxiliary_head_are_torchvisions():
    theirs = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=5, aux_loss=True)
    ours = deeplabv3.build(backbones.build("resnet50"), 5, DeepLabV3Params(output_stride=8), 0.5, True)
    ours.backbone.net.load_state_dict(theirs.backbone.state_dict(), strict=False)
    ours.head.head.load_state_dict(theirs.classifier.state_dict())
    ours.auxiliary.load_state_dict(theirs.aux_classifier.state_dict())
    images = torch.randn(2, 3, 64, 64)
    for model in (ours, theirs):
        for layer in model.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
    ours.train(), theirs.train()
    with torch.no_grad():
        found, expected = ours(images), theirs(images)
    torch.testing.assert_close(found.main, expected["out"])
    torch.testing.assert_close(found.auxiliary, expected["aux"])


def test_fcn_32s_is_torchvisions_head_on_the_coarsest_map():
    theirs = FCNHead(512, 5).eval()
    ours = fcn.build(backbones.build("resnet18"), 5, FCNParams(finest_stride_px=32), 0.0, False)
    ours.head.coarsest.load_state_dict(theirs.state_dict())
    assert len(ours.head.skips) == 0
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = ours.eval().backbone.features(images)
        expected = upsampled(theirs(maps[-1]), (64, 64))
        torch.testing.assert_close(ours(images).main, expected)


def test_fcn_8s_adds_the_scores_of_finer_maps():
    model = fcn.build(backbones.build("resnet18"), 5, FCNParams(finest_stride_px=8), 0.0, False).eval()
    maps = [torch.randn(1, c, 64 // s, 64 // s) for c, s in zip((64, 128, 256, 512), (4, 8, 16, 32), strict=True)]
    with torch.no_grad():
        coarse = model.head.coarsest(maps[-1])
        begun = model.head(maps)
        torch.testing.assert_close(begun, upsampled(upsampled(coarse, (4, 4)), (8, 8)))  # skips start at zero
        for skip in model.head.skips:
            nn.init.normal_(skip.weight)
        by_hand = upsampled(upsampled(coarse, (4, 4)) + model.head.skips[1](maps[2]), (8, 8))
        torch.testing.assert_close(model.head(maps), by_hand + model.head.skips[0](maps[1]))


@pytest.mark.parametrize(("output_stride", "rates"), [(16, (6, 12, 18)), (8, (12, 24, 36))])
def test_atrous_rates_follow_the_stride(output_stride, rates):
    model = deeplabv3.build(backbones.build("resnet18"), 5, DeepLabV3Params(output_stride=output_stride), 0.0, False)
    assert model.backbone.strides[-1] == output_stride
    assert tuple(m.dilation[0] for m in model.head.modules() if isinstance(m, nn.Conv2d) and m.dilation[0] > 1) == rates


@pytest.mark.parametrize(("arch", "kind"), [("vgg11_bn", "fcn"), *(("googlenet", kind) for kind in BUILD)])
def test_families_that_do_not_dilate_keep_their_stride(arch, kind):
    model = BUILD[kind](backbones.build(arch), False).train()
    assert model.backbone.strides == (4, 8, 16, 32)
    scores = model(torch.randn(2, 3, 64, 64)).main
    scores.mean().backward()
    assert scores.shape == (2, 5, 64, 64)
    assert all(weight.grad is not None for weight in model.parameters() if weight.requires_grad)


def test_the_small_stem_has_finer_maps_and_no_dilation_is_needed():
    model = BUILD["deeplabv3"](backbones.build("resnet18", stem="small"), False)
    assert model.backbone.strides == (1, 2, 4, 8)
    assert BUILD["lraspp"](backbones.build("resnet18", stem="small"), False).head.detail == 2


def test_dropout_is_that_of_the_task():
    model = fcn.build(backbones.build("resnet18"), 5, FCNParams(), 0.3, True)
    assert {layer.p for layer in model.modules() if isinstance(layer, nn.Dropout)} == {0.3}
