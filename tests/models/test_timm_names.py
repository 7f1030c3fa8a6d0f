"""Weights in timm's layout: timm's own models with random weights answer as ours do with the same file."""

import json

import pytest
import safetensors.torch
import torch
from torch import nn

from stages.models import backbones, timm_names
from stages.models.classifier import Classifier
from stages.models.weights import load_weights

# Our name, timm's name, side of the image in pixels. EfficientNet b5 and V2 have another epsilon here than in timm.
PAIRS = [
    ("resnet18", "resnet18", 64),
    ("vgg11_bn", "vgg11_bn", 224),
    ("inception_v3", "inception_v3", 96),
    ("efficientnet_b0", "efficientnet_b0", 64),
    ("efficientnet_b5", "efficientnet_b5", 64),
    ("efficientnet_v2_s", "efficientnetv2_s", 64),
    ("mobilenet_v2", "mobilenetv2_100", 64),
    ("mobilenet_v3_small", "mobilenetv3_small_100", 64),
    ("mobilenet_v3_large", "mobilenetv3_large_100", 64),
    ("convnext_tiny", "convnext_tiny", 64),
    ("vit_ti_16", "vit_tiny_patch16_224", 224),
    ("swin_t", "swin_tiny_patch4_window7_224", 224),
    ("swin_v2_t", "swinv2_tiny_window8_256", 256),
]


@pytest.fixture(scope="module")
def timm():
    return pytest.importorskip("timm", reason="timm is not installed: make installs it with the dev extra")


def randomised(model: nn.Module) -> nn.Module:
    """Every tensor away from its initial value, so that none can be left out or swapped unseen."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2, generator=generator)
        elif tensor.is_floating_point() and tensor.ndim <= 1 or name.endswith(("cls_token", "pos_embed", "bias_table")):
            tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=0.3)
    return model.eval()


@pytest.mark.parametrize(("arch", "name", "side"), PAIRS)
@torch.no_grad()
def test_answers_equal_timms(timm, tmp_path, arch, name, side):
    torch.manual_seed(0)
    theirs = randomised(timm.create_model(name, pretrained=False, num_classes=7))
    file = tmp_path / "model.safetensors"
    safetensors.torch.save_file(theirs.state_dict(), file)
    ours = Classifier(backbones.build(arch), 7).eval()
    report = load_weights(ours, file)
    assert not (report.missing and "AuxLogits" not in report.missing[0] or report.mismatched or report.unexpected), report
    images = torch.randn(2, 3, side, side)
    expected = theirs(images)
    assert expected.std() > 0.01
    torch.testing.assert_close(ours(images).main, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
