"""Learning rates that fall from the head down (ELECTRA: Clark et al. 2020; BEiT: Bao et al. 2022), a step a stage."""

from stages.models.adaptation.plan import Plan
from stages.models.backbone import Backbone
from stages.params.adaptation import LayerDecayParams

PREFIX = "backbone.net."


def layer_decay(backbone: Backbone, params: LayerDecayParams) -> Plan:
    """decay for the last stage, decay^2 for the one before it, ...; 1 for all that is beside the backbone."""
    stages, most = backbone.parameter_stages(), len(backbone.layout.stages)

    def lr_scale(name: str) -> float:
        return params.decay ** (most - stages[name.removeprefix(PREFIX)]) if name.startswith(PREFIX) else 1.0

    return Plan(lr_scale=lr_scale)
