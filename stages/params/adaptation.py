"""`tasks.NAME.adaptation`: how a pretrained backbone is fitted to a task. Neck and head are new and always train whole.

A mode without keys of its own may be written as its name alone: `adaptation: head`.
"""

from itertools import pairwise
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidatorFunctionWrapHandler, WrapValidator, field_validator

from stages.params.section import Fraction, Section

Stages = Annotated[int, Field(ge=1, le=4)]


class FullParams(Section):
    """All weights train."""

    mode: Literal["full"] = "full"


class HeadParams(Section):
    """The backbone stays as it is."""

    mode: Literal["head"] = "head"


class LastKParams(Section):
    """The last stages of the backbone train, the ones before them stay as they are."""

    mode: Literal["last_k"] = "last_k"
    k: Stages = Field(1, description="stages that train")
    freeze_norm: bool = Field(False, description="batch norms stay as they are in the stages that train, too")


class GradualParams(Section):
    """Stage after stage thaws, the last first (ULMFiT: Howard and Ruder 2018, section 3.3)."""

    mode: Literal["gradual"] = "gradual"
    thaw_at: tuple[Fraction, ...] = Field(
        (0.1, 0.2, 0.3, 0.4),
        min_length=1,
        max_length=4,
        description="shares of the steps where the last stage thaws, the one before it, ...; the rest stays frozen",
    )

    @field_validator("thaw_at")
    @classmethod
    def _rising(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if any(later < earlier for earlier, later in pairwise(shares)):
            raise ValueError("must not fall: the last stage thaws first")
        return shares


class BnFrozenParams(Section):
    """All weights train but those of the backbone's batch norms, which keep their statistics, too."""

    mode: Literal["bn_frozen"] = "bn_frozen"


class NormOnlyParams(Section):
    """Of the backbone only its norms train (Frankle et al. 2021)."""

    mode: Literal["norm_only"] = "norm_only"


class BitfitParams(Section):
    """Of the backbone only its biases train, those of its norms among them (BitFit: Ben Zaken et al. 2022)."""

    mode: Literal["bitfit"] = "bitfit"


class LoraParams(Section):
    """Each matrix and filter bank of the backbone gets a change of low rank (LoRA: Hu et al. 2021)."""

    mode: Literal["lora"] = "lora"
    rank: int = Field(8, ge=1, le=1024, description="of the change of a weight, seen as a matrix with a row an output")
    alpha: float = Field(16.0, gt=0, le=4096, description="the change is multiplied by alpha / rank")


class AdapterParams(Section):
    """Small new layers beside the frozen ones, and the norms (Rebuffi et al. 2018; Houlsby et al. 2019)."""

    mode: Literal["adapter"] = "adapter"
    bottleneck: int = Field(64, ge=1, le=4096, description="width of the adapters of transformers; others have none")


class LayerDecayParams(Section):
    """All weights train, first stages more slowly than last (ELECTRA: Clark et al. 2020; BEiT: Bao et al. 2022)."""

    mode: Literal["layer_decay"] = "layer_decay"
    decay: float = Field(0.75, gt=0, le=1, description="learning rate of a stage over that of the next; head: 1")


_Any = (
    FullParams
    | HeadParams
    | LastKParams
    | GradualParams
    | BnFrozenParams
    | NormOnlyParams
    | BitfitParams
    | LoraParams
    | AdapterParams
    | LayerDecayParams
)
MODES: dict[str, type[Section]] = {section.model_fields["mode"].default: section for section in get_args(_Any)}


def _by_mode(value: Any, handler: ValidatorFunctionWrapHandler) -> Section:
    """Check by the section of the mode: a union would name each of the ten in an error."""
    if isinstance(value, Section):
        return handler(value)
    keys = {"mode": value} if isinstance(value, str) else value
    if not isinstance(keys, dict) or "mode" not in keys:
        raise ValueError(f"must be a mode, or keys with `mode` among them; modes are: {', '.join(MODES)}")
    mode = keys["mode"]
    if not isinstance(mode, str) or mode not in MODES:
        raise ValueError(f"unknown mode {mode!r}; there are: {', '.join(MODES)}")
    return MODES[mode].model_validate(keys)


AdaptationParams = Annotated[_Any, WrapValidator(_by_mode)]
