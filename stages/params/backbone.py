"""`backbones.NAME`: a feature extractor and how it is pretrained."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from stages.params.augmentation import ClassificationAugmentation
from stages.params.section import Fraction, Name, Section
from stages.params.training import TrainingParams

# torchvision's names; stages/models/ has one file per family, and a test compares the two.
ARCHITECTURES = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnext50_32x4d", "resnext101_32x8d", "wide_resnet50_2", "wide_resnet101_2"),
    *("vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"),
    *("googlenet", "inception_v3"),
)


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
    stem: Literal["imagenet", "small"] = Field(description="small: stride 1 stem for images under 100 px (resnets)")
    weights: str | None = Field(None, description="safetensors or weights-only file to start from")
    image_px: int = Field(224, ge=32, le=2048, description="side of the square training image, pixels")
    dropout: Fraction = 0.0
    drop_path: Fraction = Field(0.0, description="largest probability that a residual branch is left out")
    label_smoothing: Fraction = 0.0
    augmentation: ClassificationAugmentation = Field(default_factory=ClassificationAugmentation)
    training: TrainingParams
