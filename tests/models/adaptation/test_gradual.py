"""Stages thaw from the last, at their shares of the steps, whatever came before."""

import pytest

from stages.models.adaptation.adapt import adapt
from stages.params.adaptation import GradualParams


def changed_stages(changed):
    return {int(name.split(".")[2].removeprefix("layer")) for name in changed if name.startswith("backbone.")}


def test_stages_thaw_one_by_one(parts):
    model, plan = parts.adapted("gradual", thaw_at=[0.2, 0.4, 0.4, 0.9])
    found = [changed_stages(parts.changed_by_a_step(model, plan, step)) for step in range(10)]
    assert found == [set(), set(), {4}, {4}, *[{2, 3, 4}] * 5, {1, 2, 3, 4}]


@pytest.mark.parametrize("step", [0, 3, 5, 9])
def test_a_step_alone_decides(parts, step):
    """Also where a training goes on in the middle, or a step comes again."""
    whole, plan = parts.adapted("gradual")
    for before in range(step + 1):
        plan.at(before, 20)
    resumed, other = parts.adapted("gradual")
    other.at(step, 20)
    for first, second in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert first.requires_grad == second.requires_grad
    whole.train(), resumed.train()
    assert [m.training for m in whole.modules()] == [m.training for m in resumed.modules()]


def test_fewer_shares_than_stages_leave_the_first_frozen(parts):
    model, plan = parts.adapted("gradual", thaw_at=[0.0, 0.5])
    assert plan.trainable_percent < 100
    assert changed_stages(parts.changed_by_a_step(model, plan, 0)) == {4}
    assert changed_stages(parts.changed_by_a_step(model, plan, 9)) == {3, 4}


def test_more_shares_than_stages_are_refused(parts):
    model = parts.small()
    object.__setattr__(model.backbone.layout, "stages", model.backbone.layout.stages[:2])
    with pytest.raises(ValueError, match="thaw_at has 4 shares, but small has 2 stages"):
        adapt(model, GradualParams())
