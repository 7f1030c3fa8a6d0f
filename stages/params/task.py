"""What the entries of `tasks` share whatever their kind."""

from collections.abc import Iterator

from pydantic import Field

from stages.params.adaptation import AdaptationParams, FullParams
from stages.params.backbone import (
    DROP_PATH_FAMILIES,
    BackboneParams,
    has_batch_norm,
    has_drop_path,
    has_norm,
    image_px_min_of,
)
from stages.params.section import Fraction, Name, Section
from stages.params.training import TrainingParams


class EvaluationParams(Section):
    """How a model is measured on the test split."""

    resamples: int = Field(1000, ge=0, le=100000, description="bootstrap resamples over images; 0: no intervals")
    confidence: Fraction = Field(0.95, description="coverage of the intervals")
    num_pictures: int = Field(12, ge=0, le=200, description="drawn predictions: half the worst, half at random")


class TaskParams(Section):
    """Keys of every task; a kind adds its own in the module of its name."""

    kind: str
    dataset: Name
    backbone: Name
    control: bool = Field(False, description="also train from scratch, to see what pretraining is worth")
    dropout: Fraction = 0.0
    drop_path: Fraction = Field(0.0, description="largest probability that a residual branch is left out")
    label_smoothing: Fraction = 0.0
    adaptation: AdaptationParams = Field(default_factory=FullParams, description="what of the backbone trains, and how")
    training: TrainingParams
    evaluation: EvaluationParams = Field(default_factory=EvaluationParams)

    @property
    def input_px(self) -> tuple[int, ...]:
        """The sides of what the model gets; none where the kind does not say."""
        return ()

    @property
    def takes_boxes(self) -> bool:
        """Whether a request may say, beside an image, which box of it is asked about."""
        return False

    def misfits(self, backbone: BackboneParams) -> Iterator[str]:
        """What keeps the task from that backbone, with what would not; nothing if they fit."""
        arch = backbone.arch
        if self.drop_path and not has_drop_path(arch):
            families = ", ".join(DROP_PATH_FAMILIES)
            yield f"drop_path {self.drop_path}: {arch} has none; families that have it: {families}"
        if self.adaptation.mode == "bn_frozen" and not has_batch_norm(arch):
            yield f"adaptation bn_frozen: {arch} has no batch norms, nothing would be frozen; write full"
        if self.adaptation.mode == "norm_only" and not has_norm(arch):
            yield f"adaptation norm_only: {arch} has no norms, nothing of it would train; write head"
        side, least = min(self.input_px, default=None), image_px_min_of(arch)
        if side is not None and side < least:
            yield f"images of {side} px: {arch} needs at least {least} px a side"
