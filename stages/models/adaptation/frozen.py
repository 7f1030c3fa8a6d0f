"""Modes that only choose which parameters of a backbone train, and whether its batch norms keep their statistics."""

from stages.models.adaptation.plan import Plan
from stages.models.backbone import BATCH_NORMS, Backbone
from stages.params.adaptation import BitfitParams, BnFrozenParams, HeadParams, LastKParams, NormOnlyParams


def head(backbone: Backbone, params: HeadParams) -> Plan:
    """Nothing of the backbone; all of it stays in eval mode."""
    backbone.freeze("backbone")
    return Plan()


def last_k(backbone: Backbone, params: LastKParams) -> Plan:
    """The last k stages; the others stay in eval mode."""
    backbone.freeze(len(backbone.layout.stages) - params.k)
    if params.freeze_norm:
        backbone.freeze_batch_norm()
    return Plan()


def bn_frozen(backbone: Backbone, params: BnFrozenParams) -> Plan:
    """All but the batch norms, which keep weights and statistics."""
    if not backbone.norms(BATCH_NORMS):
        raise ValueError(f"bn_frozen: {backbone.arch} has no batch norms, nothing would be frozen; write full")
    backbone.freeze_batch_norm()
    return Plan()


def norm_only(backbone: Backbone, params: NormOnlyParams) -> Plan:
    """The norms; batch norms take the statistics of the new data, as in Frankle et al. 2021."""
    if not backbone.norms():
        raise ValueError(f"norm_only: {backbone.arch} has no norms, nothing of it would train; write head")
    train_norms_only(backbone)
    return Plan()


def bitfit(backbone: Backbone, params: BitfitParams) -> Plan:
    """The biases; batch norms keep their statistics, which would be more change than any bias."""
    for name, weight in backbone.net.named_parameters():
        weight.requires_grad_(name.endswith("bias"))
    backbone.freeze_statistics()
    return Plan()


def train_norms_only(backbone: Backbone) -> None:
    """Freeze all of a backbone but its norms; layers that make its maps are as new as the head, and train."""
    backbone.net.requires_grad_(False)
    for norm in backbone.norms():
        norm.requires_grad_(True)
