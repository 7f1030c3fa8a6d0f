"""VGG (Simonyan and Zisserman 2015), with and without batch norm."""

from itertools import pairwise

import torchvision
from torch import nn

from stages.models.backbone import Backbone, Layout

ARCHITECTURES = ("vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn")

_HIDDEN = 4096


def build(arch: str, stem: str) -> Backbone:
    """A VGG network; pooled features are the second of its two layers of 4096.

    Features are the last convolutions before the third, fourth and fifth pooling, and the fifth pooling: the
    deepest layer at each stride. The last stage therefore has no weights.
    """
    net = torchvision.models.get_model(arch, weights=None)
    # Without the last dropout and linear layer, which belong to the classifier.
    net.classifier = net.classifier[:5]
    layout = Layout(
        stages=_stages(net.features),
        channels=(256, 512, 512, 512),
        strides=(4, 8, 16, 32),
        num_features=_HIDDEN,
        image_px_min=32,
        head=_head,
        head_name="classifier.6",
        hidden=("classifier",),
    )
    return Backbone(arch, net, layout)


def _stages(layers: nn.Sequential) -> tuple[tuple[str, ...], ...]:
    pools = [i for i, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    starts = [0, *pools[2:], len(layers)]
    return tuple(tuple(f"features.{i}" for i in range(*ends)) for ends in pairwise(starts))


def _head(num_classes: int) -> nn.Module:
    layer = nn.Linear(_HIDDEN, num_classes)
    nn.init.normal_(layer.weight, 0, 0.01)
    nn.init.zeros_(layer.bias)
    return layer
