"""ConvNeXt (Liu et al. 2022)."""

from functools import partial

import torchvision
from torchvision.models.convnext import LayerNorm2d

from stages.models.backbone import Backbone, Layout, truncated_normal_linear
from stages.params.backbone import channels_of

ARCHITECTURES = ("convnext_tiny", "convnext_small", "convnext_base", "convnext_large")


def build(arch: str, stem: str) -> Backbone:
    """A ConvNeXt; features are the four stages, each with a layer norm of its own as in the authors' detectors.

    Source: https://github.com/facebookresearch/ConvNeXt, object_detection/mmdet/models/backbones/convnext.py.
    """
    net = torchvision.models.get_model(arch, weights=None)
    channels = channels_of(arch)
    net.classifier = net.classifier[:2]  # norm and flatten: what follows the pooling
    layout = Layout(
        stages=tuple((f"features.{i}", f"features.{i + 1}") for i in (0, 2, 4, 6)),
        channels=channels,
        strides=(4, 8, 16, 32),
        num_features=channels[-1],
        image_px_min=32,
        head=partial(truncated_normal_linear, channels[-1]),
        head_name="classifier.2",
        pooling=("avgpool", "classifier"),
        feature_layers=lambda: [LayerNorm2d(width, eps=1e-6) for width in channels],
        multiples=(4, 2, 2, 2),
    )
    return Backbone(arch, net, layout)
