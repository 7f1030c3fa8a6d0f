"""EfficientNet (Tan and Le 2019) and EfficientNetV2 (Tan and Le 2021)."""

import math
from functools import partial

import torchvision
from torch import nn

from stages.models.backbone import Backbone, Layout, cut_by_stride
from stages.params.backbone import channels_of

ARCHITECTURES = (
    *(f"efficientnet_b{i}" for i in range(8)),
    *("efficientnet_v2_s", "efficientnet_v2_m", "efficientnet_v2_l"),
)


def build(arch: str, stem: str) -> Backbone:
    """An EfficientNet; features are the last blocks at strides 4 to 32, which EfficientDet reads (Tan et al. 2020)."""
    net = torchvision.models.get_model(arch, weights=None)
    num_features = net.classifier[1].in_features
    del net.classifier
    layout = Layout(
        stages=cut_by_stride(net.features),
        channels=channels_of(arch),
        strides=(4, 8, 16, 32),
        num_features=num_features,
        image_px_min=1,
        head=partial(_head, num_features),
        head_name="classifier.1",
        pooling=(f"features.{len(net.features) - 1}", "avgpool"),
    )
    return Backbone(arch, net, layout)


def _head(num_features: int, num_classes: int) -> nn.Module:
    layer = nn.Linear(num_features, num_classes)
    bound = 1 / math.sqrt(num_classes)
    nn.init.uniform_(layer.weight, -bound, bound)
    nn.init.zeros_(layer.bias)
    return layer
