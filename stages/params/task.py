"""What the entries of `tasks` share whatever their kind."""

from pydantic import Field

from stages.params.adaptation import AdaptationParams, FullParams
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
