"""`backbones.NAME`: a feature extractor and how it is pretrained."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from stages.params.augmentation import ClassificationAugmentation
from stages.params.section import Fraction, Name, Section
from stages.params.training import TrainingParams

_BASIC, _BOTTLENECK = (64, 128, 256, 512), (256, 512, 1024, 2048)
_VGG = ("vgg11", "vgg13", "vgg16", "vgg19")
_NARROW, _SWIN_B = (96, 192, 384, 768), (128, 256, 512, 1024)

# Channels of the feature maps, finest first, under torchvision's names (vit_ti_16 and vit_s_16: DeiT's sizes, Touvron
# et al. 2021, table 1). stages/models/ has one file per family; a test compares the two.
CHANNELS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("resnet18", "resnet34"), _BASIC),
    **dict.fromkeys(("resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d"), _BOTTLENECK),
    **dict.fromkeys(("wide_resnet50_2", "wide_resnet101_2"), _BOTTLENECK),
    **dict.fromkeys((*_VGG, *(f"{name}_bn" for name in _VGG)), (256, 512, 512, 512)),
    "googlenet": (192, 480, 832, 1024),
    "inception_v3": (192, 288, 768, 2048),
    **dict.fromkeys(("efficientnet_b0", "efficientnet_b1"), (24, 40, 112, 320)),
    "efficientnet_b2": (24, 48, 120, 352),
    "efficientnet_b3": (32, 48, 136, 384),
    "efficientnet_b4": (32, 56, 160, 448),
    "efficientnet_b5": (40, 64, 176, 512),
    "efficientnet_b6": (40, 72, 200, 576),
    "efficientnet_b7": (48, 80, 224, 640),
    "efficientnet_v2_s": (48, 64, 160, 256),
    "efficientnet_v2_m": (48, 80, 176, 512),
    "efficientnet_v2_l": (64, 96, 224, 640),
    "mobilenet_v2": (24, 32, 96, 320),
    "mobilenet_v3_small": (16, 24, 48, 96),
    "mobilenet_v3_large": (24, 40, 112, 160),
    **dict.fromkeys(("convnext_tiny", "convnext_small"), _NARROW),
    "convnext_base": _SWIN_B,
    "convnext_large": (192, 384, 768, 1536),
    "vit_ti_16": (192,) * 4,
    **dict.fromkeys(("vit_s_16", "vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32"), (256,) * 4),
    **dict.fromkeys(("swin_t", "swin_s", "swin_v2_t", "swin_v2_s"), _NARROW),
    **dict.fromkeys(("swin_b", "swin_v2_b"), _SWIN_B),
}
ARCHITECTURES = tuple(CHANNELS)
HAS_FEATURES = frozenset(ARCHITECTURES)  # what a dense task can stand on
DROP_PATH_FAMILIES = ("efficientnet", "convnext", "vit", "swin")
_LAYER_NORM_FAMILIES = ("convnext", "vit", "swin")
# What the network does first with an image -> the architectures that can.
STEMS = {"imagenet": "every architecture", "small": "resnets", "inception": "every architecture"}
# torchvision's files for these two expect inputs in [-1, 1].
_PUBLISHED_INCEPTION = ("googlenet-1378be20", "inception_v3_google-0cc3c7bd")


def channels_of(arch: str) -> tuple[int, ...]:
    """Channels of each feature map, finest first."""
    return CHANNELS[arch]


def strides_of(arch: str, stem: str = "imagenet") -> tuple[int, ...]:
    """Image pixels a cell of each feature map, finest first; the same for every architecture."""
    return (1, 2, 4, 8) if stem == "small" else (4, 8, 16, 32)


def image_px_min_of(arch: str) -> int:
    """Smallest side of an image that the network can take, in pixels."""
    if arch.startswith("vit"):
        return int(arch.rpartition("_")[2])
    sizes = {"vgg": 32, "convnext": 32, "swin": 4, "googlenet": 15, "inception": 75}
    return next((px for family, px in sizes.items() if arch.startswith(family)), 1)


def has_drop_path(arch: str) -> bool:
    """Whether stochastic depth can be set."""
    return arch.startswith(DROP_PATH_FAMILIES)


def has_batch_norm(arch: str) -> bool:
    """Whether there are batch norms, whose statistics small batches spoil."""
    return arch.endswith("_bn") if arch.startswith("vgg") else not arch.startswith(_LAYER_NORM_FAMILIES)


def has_norm(arch: str) -> bool:
    """Whether there are norms of any kind; only the first VGGs do without."""
    return has_batch_norm(arch) or arch.startswith(_LAYER_NORM_FAMILIES)


def stems_of(arch: str) -> tuple[str, ...]:
    """The values of `stem` that an architecture can be built with."""
    is_residual = arch.startswith(("resnet", "resnext", "wide_resnet"))
    return ("imagenet", "small", "inception") if is_residual else ("imagenet", "inception")


def check_stem(arch: str, stem: str) -> None:
    """ValueError unless the architecture can be built with that stem."""
    if stem not in STEMS:
        raise ValueError(f"unknown stem {stem!r}; there are: {', '.join(STEMS)}")
    if stem not in stems_of(arch):
        raise ValueError(f"stem {stem!r} is for {STEMS[stem]}; {arch} has: {', '.join(stems_of(arch))}")


def _known(arch: str) -> str:
    if arch not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {arch!r}; there are: {', '.join(ARCHITECTURES)}")
    return arch


def _objective(name: str) -> str:
    there = [module for module in modules_of("objectives") if module != "objective"]
    if name not in there:
        raise ValueError(f"unknown objective {name!r}; there are: {', '.join(there)}")
    return name


def modules_of(package: str) -> list[str]:
    """Names of the modules in stages/PACKAGE, found on disk so that nothing is imported."""
    files = (Path(__file__).parents[1] / package).glob("[a-z]*.py")
    return sorted(file.stem for file in files)


Architecture = Annotated[str, AfterValidator(_known)]


class BackboneParams(Section):
    """One backbone and its pretraining."""

    dataset: Name
    arch: Architecture
    objective: Annotated[str, AfterValidator(_objective)]
    stem: Literal["imagenet", "small", "inception"] = Field(
        description="small: stride 1 stem for images under 100 px (resnets); inception: the usual stem on inputs in "
        "[-1, 1], which the published weights of googlenet and inception_v3, and some of timm's, expect"
    )
    weights: str | None = Field(None, description="safetensors or weights-only file to start from")
    weights_sha256: str | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="of that file: `run` writes it here, and another file is refused"
    )
    image_px: int = Field(224, ge=32, le=2048, description="side of the square training image, pixels")
    dropout: Fraction = 0.0
    drop_path: Fraction = Field(0.0, description="stochastic depth: rate of the last residual block (not all families)")
    label_smoothing: Fraction = 0.0
    augmentation: ClassificationAugmentation = Field(default_factory=ClassificationAugmentation)
    training: TrainingParams | None = Field(
        None, validate_default=True, description="null: the weights of the file stay as they are"
    )

    @property
    def trained_on(self) -> str | None:
        """The dataset of its pretraining; None where weights stay as they were published."""
        return self.dataset if self.training else None

    @field_validator("training")
    @classmethod
    def _needed(cls, training: TrainingParams | None, info: ValidationInfo) -> TrainingParams | None:
        if training is None and not info.data.get("weights"):
            raise ValueError("None is for weights of a file, which then stay as they are: give steps or epochs")
        return training

    @model_validator(mode="after")
    def _fits(self) -> "BackboneParams":
        if self.weights_sha256 and not self.weights:
            raise ValueError("weights_sha256 is of a file: give weights too")
        check_stem(self.arch, self.stem)
        if self.drop_path and not has_drop_path(self.arch):
            families = ", ".join(DROP_PATH_FAMILIES)
            raise ValueError(f"drop_path {self.drop_path}: {self.arch} has none; families that have it: {families}")
        if self.stem != "inception" and Path(self.weights or "").name.startswith(_PUBLISHED_INCEPTION):
            raise ValueError(f"weights {self.weights} expect inputs in [-1, 1]; set stem to 'inception'")
        return self
