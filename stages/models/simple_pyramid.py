"""The simple feature pyramid of ViTDet: maps at several strides from the one map of a plain transformer."""

from torch import nn
from torchvision.models.convnext import LayerNorm2d


def level(width: int, channels: int, halvings: int) -> nn.Sequential:
    """One level: map [B, width, h, w] to [B, channels, h', w'], where h' = h * 2^halvings, or h / 2 rounded up for -1.

    Each halving of the stride is a deconvolution that also halves the width, with a layer norm and GELU between two of
    them; then a 1x1 and a 3x3 convolution, each with a layer norm.
    Source: Li et al. 2022, "Exploring Plain Vision Transformer Backbones for Object Detection", section 3 and appendix
    A.2; they go up by 2^2, here patches of 32 px go up by 2^3.
    """
    layers: list[nn.Module] = [nn.MaxPool2d(2, ceil_mode=True)] if halvings < 0 else []
    for i in range(max(halvings, 0)):
        layers += [LayerNorm2d(width, eps=1e-6), nn.GELU()] if i else []
        layers += [nn.ConvTranspose2d(width, width // 2, kernel_size=2, stride=2)]
        width //= 2
    layers += [nn.Conv2d(width, channels, 1, bias=False), LayerNorm2d(channels, eps=1e-6)]
    layers += [nn.Conv2d(channels, channels, 3, padding=1, bias=False), LayerNorm2d(channels, eps=1e-6)]
    return nn.Sequential(*layers)
