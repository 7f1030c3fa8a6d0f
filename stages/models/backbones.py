"""The name of an architecture -> its feature extractor."""

from stages.models import convnext, efficientnet, inception, mobilenet, resnet, swin, vgg, vit
from stages.models.backbone import Backbone
from stages.params.backbone import BackboneParams, check_stem

__all__ = ["FAMILIES", "Backbone", "build", "from_params"]

# A family is a module with ARCHITECTURES and build(arch, stem).
FAMILIES = (resnet, vgg, inception, efficientnet, mobilenet, convnext, vit, swin)


def build(arch: str, *, stem: str = "imagenet") -> Backbone:
    """The backbone of that name, initialised as torchvision does; the caller seeds torch.

    stem "small" (resnets) starts with stride 1, for images under 100 px: strides are then 1, 2, 4, 8 instead of
    4, 8, 16, 32, and weights of the usual stem do not fit. stem "inception" brings images to [-1, 1] first, as the
    published weights of GoogLeNet, Inception v3 and some of timm's expect. Raises ValueError for an unknown name, or
    a stem that the architecture has not.
    """
    for family in FAMILIES:
        if arch in family.ARCHITECTURES:
            check_stem(arch, stem)
            backbone = family.build(arch, stem)
            backbone.stem = stem
            return backbone
    known = ", ".join(name for family in FAMILIES for name in family.ARCHITECTURES)
    raise ValueError(f"unknown architecture {arch!r}; there are: {known}")


def from_params(params: BackboneParams) -> Backbone:
    """The untrained backbone of an entry of params.yaml."""
    return build(params.arch, stem=params.stem)
