"""ResNet (He et al. 2016), ResNeXt (Xie et al. 2017) and Wide ResNet (Zagoruyko and Komodakis 2016)."""

from functools import partial

import torchvision
from torch import nn

from stages.models.backbone import Backbone, Layout

ARCHITECTURES = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnext50_32x4d", "resnext101_32x8d", "wide_resnet50_2", "wide_resnet101_2"),
)

_STAGES = (("conv1", "bn1", "relu", "maxpool", "layer1"), ("layer2",), ("layer3",), ("layer4",))


def build(arch: str, stem: str) -> Backbone:
    """A residual network; features are the outputs of layer1 to layer4 (C2 to C5)."""
    net = torchvision.models.get_model(arch, weights=None)
    if stem == "small":
        _shrink_stem(net)
    num_features = net.fc.in_features
    del net.fc
    layout = Layout(
        stages=_STAGES,
        channels=tuple(num_features // divisor for divisor in (8, 4, 2, 1)),
        strides=(1, 2, 4, 8) if stem == "small" else (4, 8, 16, 32),
        num_features=num_features,
        image_px_min=1,
        head=partial(nn.Linear, num_features),
    )
    return Backbone(arch, net, layout)


def _shrink_stem(net: nn.Module) -> None:
    """As He et al. did for CIFAR: a 3x3 convolution of stride 1 and no max pooling."""
    net.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    net.maxpool = nn.Identity()
