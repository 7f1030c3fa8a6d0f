"""Gradual unfreezing (ULMFiT: Howard and Ruder 2018, section 3.3): the head first, then the stages from the last."""

from stages.models.adaptation.plan import Plan
from stages.models.backbone import Backbone
from stages.params.adaptation import GradualParams


def gradual(backbone: Backbone, params: GradualParams) -> Plan:
    """Stages thaw at their shares of the steps; until then they are in eval mode and the optimizer passes them over."""
    most = len(backbone.layout.stages)
    if len(params.thaw_at) > most:
        raise ValueError(f"thaw_at has {len(params.thaw_at)} shares, but {backbone.arch} has {most} stages")
    backbone.freeze(most - len(params.thaw_at))

    def at(step: int, steps: int) -> None:
        backbone.requires_grad_(True)
        backbone.freeze(most - sum(step >= share * steps for share in params.thaw_at))

    return Plan(at=at)
