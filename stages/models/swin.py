"""Swin Transformer (Liu et al. 2021) and its second version (Liu et al. 2022)."""

from functools import partial

import torchvision
from torchvision.models.convnext import LayerNorm2d

from stages.models.backbone import Backbone, Layout, truncated_normal_linear
from stages.params.backbone import channels_of

ARCHITECTURES = ("swin_t", "swin_s", "swin_b", "swin_v2_t", "swin_v2_s", "swin_v2_b")


def build(arch: str, stem: str) -> Backbone:
    """A Swin Transformer; features are the four stages, each with a layer norm of its own as in the authors' detectors.

    Windows and merged patches that reach over the edge are padded, so any image size will do. In `features` the last
    incomplete patch counts too; pooled features leave it out, as torchvision does.
    Source: https://github.com/SwinTransformer/Swin-Transformer-Object-Detection, mmdet/models/backbones.
    """
    net = torchvision.models.get_model(arch, weights=None)
    del net.head
    channels = channels_of(arch)
    layout = Layout(
        stages=tuple((f"features.{i}", f"features.{i + 1}") for i in (0, 2, 4, 6)),
        channels=channels,
        strides=(4, 8, 16, 32),
        num_features=channels[-1],
        image_px_min=4,
        head=partial(truncated_normal_linear, channels[-1]),
        head_name="head",
        pooling=("norm", "permute", "avgpool"),
        channel_dim=3,
        feature_layers=lambda: [LayerNorm2d(width, eps=1e-5) for width in channels],
        multiples=(4, 1, 1, 1),
    )
    return Backbone(arch, net, layout)
