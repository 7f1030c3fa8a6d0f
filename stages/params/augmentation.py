"""`augmentation`: how a training image is varied, as a function of (seed, epoch, sample)."""

from pydantic import Field

from stages.params.section import Fraction, Section


class ClassificationAugmentation(Section):
    """Random resized crop (Szegedy et al. 2015), flip and colour."""

    crop_scale: tuple[Fraction, Fraction] = Field((0.35, 1.0), description="area of the crop over that of the image")
    crop_ratio: tuple[float, float] = Field((0.75, 1.333), description="width of the crop over its height")
    flip_horizontal: Fraction = Field(0.5, description="probability")
    brightness: Fraction = Field(0.0, description="largest relative change")
    contrast: Fraction = Field(0.0, description="largest relative change")
    random_erasing: Fraction = Field(0.0, description="probability of noise in a rectangle (Zhong et al. 2020)")
    mixup_alpha: float = Field(
        0.0, ge=0, le=100, description="a batch's images are blended by Beta(alpha, alpha) (Zhang et al. 2018); 0: off"
    )
    cutmix_alpha: float = Field(
        0.0, ge=0, le=100, description="patches of Beta(alpha, alpha)'s area change places (Yun et al. 2019); 0: off"
    )
    test_crop: float = Field(0.875, gt=0, le=1, description="central share of a test image's side that is seen")


class DetectionAugmentation(Section):
    """Flips, colour and scale; boxes follow the image."""

    flip_horizontal: Fraction = Field(0.5, description="probability")
    flip_vertical: Fraction = Field(0.0, description="probability")
    brightness: Fraction = Field(0.0, description="largest relative change")
    contrast: Fraction = Field(0.0, description="largest relative change")
    random_erasing: Fraction = Field(0.0, description="probability of noise in a rectangle (Zhong et al. 2020)")
    scale: tuple[float, float] = Field((1.0, 1.0), description="random zoom: over 1 crops, under 1 shrinks")


class SegmentationAugmentation(DetectionAugmentation):
    """As detection's, with the wide zoom that DeepLab's authors use (Chen et al. 2017, section 4.1)."""

    scale: tuple[float, float] = Field((0.5, 2.0), description="random zoom: over 1 crops, under 1 shrinks")


class KeypointAugmentation(DetectionAugmentation):
    """Flips, colour and scale, and for heatmaps rotation; joints follow the image, left and right change places."""

    rotation_deg: float = Field(0.0, ge=0, le=180, description="heatmaps only: largest turn either way, degrees")
