"""`models.NAME`: what becomes of a task's registered versions. No stage depends on it, so a change trains nothing."""

from typing import Literal

from pydantic import Field

from stages.params.section import Fraction, Section


class GateParams(Section):
    """The rules that a challenger has to pass to become the champion, all on one test set that neither trained on."""

    rule: Literal["non_inferior", "superior"] = Field(
        "non_inferior", description="at most `margin` worse than the champion, or better than it; at 1 - alpha"
    )
    margin: Fraction = Field(0.01, description="non_inferior: loss of the main metric that would not matter")
    alpha: float = Field(0.05, gt=0, lt=0.5, description="chance that a challenger which should fail passes")
    resamples: int = Field(2000, ge=200, le=100000, description="of the paired bootstrap over images")
    slices: tuple[str, ...] = Field(
        ("class", "object_size", "brightness"),
        description="class, object_size, brightness, source (first folder) or a column of the index",
    )
    slice_margin: Fraction = Field(0.05, description="loss in a slice that blocks, if it is also beyond chance")
    slice_images_min: int = Field(20, ge=2, description="smaller slices are told, not judged")
    max_leaked: Fraction = Field(0.0, description="share of the test images that either model may have trained on")
    max_latency_ratio: float | None = Field(1.5, gt=0, description="median of one image over the champion's; null: off")
    max_latency_ms: float | None = Field(None, gt=0, description="median of one image; null: off")
    max_size_ratio: float | None = Field(2.0, gt=0, description="bytes of the weights over the champion's; null: off")
    max_size_mib: float | None = Field(None, gt=0, description="of the weights; null: off")
    approval: bool = Field(False, description="a person must agree: visionline promote NAME --approve WHO --reason ...")


class ModelParams(Section):
    """The registered model of the task with this name."""

    promote: Literal["manual", "auto"] = Field("manual", description="auto: `run` applies the gate after registering")
    purpose: str = Field("", description="what the model is for, in words; for its card")
    limits: str = Field("", description="what it is not for, or known not to do, in words; for its card")
    gate: GateParams = Field(default_factory=GateParams)
