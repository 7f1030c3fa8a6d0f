"""`kind: segmentation`: a class for every pixel, by FCN, DeepLabV3 or Lite R-ASPP."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from stages.params.augmentation import SegmentationAugmentation
from stages.params.section import Section
from stages.params.task import TaskParams

# What `ingest --task segmentation` writes, beside what all kinds share.
STARTER: dict[str, Any] = {"arch": "lraspp", "image_size_px": [256, 320]}
ANSWERS = "segments"  # what an answer holds, for stages/tracking/findings.py

Weight = Annotated[float, Field(gt=0, le=1000)]


class FCNParams(Section):
    """FCN (Long et al. 2015)."""

    finest_stride_px: Literal[8, 16, 32] = Field(8, description="FCN-8s, FCN-16s or FCN-32s")


class DeepLabV3Params(Section):
    """DeepLabV3 (Chen et al. 2017)."""

    output_stride: Literal[8, 16] = Field(16, description="of a resnet, by dilation; others keep theirs")


class LRASPPParams(Section):
    """Lite R-ASPP (Howard et al. 2019)."""

    channels: int = Field(128, ge=8, le=1024, description="width of its one inner layer")


class Params(TaskParams):
    """Parameters of a segmenter; images are scaled to fit image_size_px and padded at the right and below."""

    kind: Literal["segmentation"] = "segmentation"
    arch: Literal["fcn", "deeplabv3", "lraspp"] = "deeplabv3"
    image_size_px: tuple[int, int] = Field((480, 640), description="height, width of the canvas; multiples of 32")
    augmentation: SegmentationAugmentation = Field(default_factory=SegmentationAugmentation)
    auxiliary_weight: float = Field(
        0.0, ge=0, le=10, description="of the loss of a second head, on the map before the coarsest; 0: no such head"
    )
    dice_weight: float = Field(0.0, ge=0, le=10, description="of the Dice loss beside cross-entropy's 1")
    class_weights: Literal["none", "inverse-frequency"] | dict[str, Weight] = Field(
        "none", description="inverse-frequency: median frequency balancing; or a weight by name, 1 where none is given"
    )
    fcn: FCNParams = Field(default_factory=FCNParams)
    deeplabv3: DeepLabV3Params = Field(default_factory=DeepLabV3Params)
    lraspp: LRASPPParams = Field(default_factory=LRASPPParams)

    @model_validator(mode="after")
    def _batches_can_be_normalised(self) -> "Params":
        if self.arch == "deeplabv3" and self.training.batch_size // self.training.accumulate < 2:
            raise ValueError(
                "deeplabv3 needs 2 images in each part of a batch, for the batch norm of its pooled features: raise "
                f"training.batch_size from {self.training.batch_size}, or lower training.accumulate"
            )
        return self

    @model_validator(mode="after")
    def _fits_arch(self) -> "Params":
        if self.arch == "lraspp" and self.dropout:
            raise ValueError(f"dropout: arch lraspp has none, is {self.dropout}; for fcn and deeplabv3 only")
        return self

    @property
    def input_px(self) -> tuple[int, ...]:
        """Of the canvas."""
        return self.image_size_px
