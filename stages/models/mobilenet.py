"""MobileNetV2 (Sandler et al. 2018) and MobileNetV3 (Howard et al. 2019)."""

from functools import partial

import torchvision
from torch import nn

from stages.models.backbone import Backbone, Layout, cut_by_stride
from stages.params.backbone import channels_of

ARCHITECTURES = ("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large")


def build(arch: str, stem: str) -> Backbone:
    """A MobileNet; features are the last blocks at strides 4, 8, 16 and 32.

    Pooled features are those of the last layer before the classifier's: V3 has a hidden one, V2 has none.
    """
    net = torchvision.models.get_model(arch, weights=None)
    last = len(net.classifier) - 1
    num_features = net.classifier[last].in_features
    # Without the last dropout and linear layer, which belong to the classifier.
    net.classifier = net.classifier[: last - 1]
    net.avgpool = nn.AdaptiveAvgPool2d(1)
    layout = Layout(
        stages=cut_by_stride(net.features),
        channels=channels_of(arch),
        strides=(4, 8, 16, 32),
        num_features=num_features,
        image_px_min=1,
        head=partial(_head, num_features),
        head_name=f"classifier.{last}",
        pooling=(f"features.{len(net.features) - 1}", "avgpool"),
        hidden=("classifier",) if len(net.classifier) else (),
    )
    return Backbone(arch, net, layout)


def _head(num_features: int, num_classes: int) -> nn.Module:
    layer = nn.Linear(num_features, num_classes)
    nn.init.normal_(layer.weight, 0, 0.01)
    nn.init.zeros_(layer.bias)
    return layer
