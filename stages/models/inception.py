"""GoogLeNet (Szegedy et al. 2015) and Inception v3 (Szegedy et al. 2016), with their auxiliary classifiers."""

from functools import partial

import torchvision
from torch import nn
from torchvision.models.googlenet import InceptionAux as GoogLeNetAuxiliary
from torchvision.models.inception import InceptionAux as InceptionV3Auxiliary

from stages.models.backbone import Auxiliary, Backbone, Layout

ARCHITECTURES = ("googlenet", "inception_v3")

_GOOGLENET_STAGES = (
    ("conv1", "maxpool1", "conv2", "conv3"),
    ("maxpool2", "inception3a", "inception3b"),
    ("maxpool3", "inception4a", "inception4b", "inception4c", "inception4d", "inception4e"),
    ("maxpool4", "inception5a", "inception5b"),
)
_INCEPTION_V3_STAGES = (
    ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1", "Conv2d_3b_1x1", "Conv2d_4a_3x3"),
    ("maxpool2", "Mixed_5b", "Mixed_5c", "Mixed_5d"),
    ("Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
    ("Mixed_7a", "Mixed_7b", "Mixed_7c"),
)


def build(arch: str, stem: str) -> Backbone:
    """GoogLeNet or Inception v3; features are the last outputs at strides 4, 8, 16 and 32."""
    net = torchvision.models.get_model(arch, weights=None, aux_logits=False, init_weights=True)
    del net.fc
    return Backbone(arch, net, _googlenet() if arch == "googlenet" else _inception_v3())


def _googlenet() -> Layout:
    return Layout(
        stages=_GOOGLENET_STAGES,
        channels=(192, 480, 832, 1024),
        strides=(4, 8, 16, 32),
        num_features=1024,
        image_px_min=15,
        head=partial(_linear, 1024, std=0.01),
        auxiliary=(
            Auxiliary("aux1", "inception4a", 0.3, 15, partial(_googlenet_auxiliary, 512)),
            Auxiliary("aux2", "inception4d", 0.3, 15, partial(_googlenet_auxiliary, 528)),
        ),
        paddings=((2, 0), (1, 0), (1, 0), (0, 0)),
    )


def _inception_v3() -> Layout:
    return Layout(
        stages=_INCEPTION_V3_STAGES,
        channels=(192, 288, 768, 2048),
        strides=(4, 8, 16, 32),
        num_features=2048,
        image_px_min=75,
        head=partial(_linear, 2048, std=0.1),
        # Its 5x5 convolution on a grid pooled to 5x5 leaves nothing of images under 299 px.
        auxiliary=(Auxiliary("AuxLogits", "Mixed_6e", 0.4, 299, _inception_v3_auxiliary),),
        paddings=((9, 9), (1, 1), (1, 1), (1, 1)),
    )


def _linear(num_features: int, num_classes: int, std: float) -> nn.Module:
    return _initialised(nn.Linear(num_features, num_classes), std)


def _googlenet_auxiliary(channels: int, num_classes: int) -> nn.Module:
    return _initialised(GoogLeNetAuxiliary(channels, num_classes), 0.01)


def _inception_v3_auxiliary(num_classes: int) -> nn.Module:
    return _initialised(InceptionV3Auxiliary(768, num_classes), 0.1)


def _initialised(head: nn.Module, std: float) -> nn.Module:
    """As torchvision initialises the whole network, where a head is built with it."""
    for module in head.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(module.weight, 0.0, getattr(module, "stddev", std), -2, 2)
    return head
