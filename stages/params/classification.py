"""`kind: classification`: one label an image, or any number of them."""

from typing import Any, Literal

from pydantic import Field, model_validator

from stages.params.augmentation import ClassificationAugmentation
from stages.params.section import Fraction, Section
from stages.params.task import TaskParams

# What `ingest --task classification` writes, beside what all kinds share.
STARTER: dict[str, Any] = {"image_px": 128, "training": {"batch_size": 32}}
ANSWERS = "labels"  # what an answer holds, for stages/tracking/findings.py


class ProbeParams(Section):
    """The linear probe that stands for `before`: logistic regression on frozen features."""

    l2: float = Field(1e-3, ge=0, description="weight of the squared norm")
    iterations: int = Field(200, ge=1, description="L-BFGS iterations")


class Params(TaskParams):
    """Parameters of a classifier: pooled features, dropout, one linear layer."""

    kind: Literal["classification"] = "classification"
    image_px: int = Field(224, ge=32, le=2048, description="side of the square image, pixels")
    augmentation: ClassificationAugmentation = Field(default_factory=ClassificationAugmentation)
    probe: ProbeParams = Field(default_factory=ProbeParams)
    multi_label: bool = Field(False, description="an image has any number of labels, each decided by itself")
    labels_from: Literal["labels", "objects"] = Field(
        "labels", description="multi_label only; objects: those of the boxes of a detection dataset"
    )
    score_threshold: Fraction = Field(0.5, description="multi_label only: probability from which a label is given")

    @model_validator(mode="after")
    def _consistent(self) -> "Params":
        if self.labels_from == "objects" and not self.multi_label:
            raise ValueError("labels_from: objects needs multi_label: true, for an image has any number of them")
        return self

    @property
    def input_px(self) -> tuple[int, ...]:
        """Of the square image."""
        return (self.image_px,)
