"""Every mode of adaptation in the loop: interrupted it ends with the same bits, and leaves the plain model's names."""

import pytest
import torch

from stages.models.adaptation.adapt import adapt
from stages.models.adaptation.plan import Plan
from stages.params.adaptation import MODES
from stages.training import loop

# All that a training keeps between two steps.
FULL = {
    "steps": 12,
    "batch_size": 5,
    "ema_decay": 0.9,
    "validate_every": 4,
    "early_stopping": {"patience": 50},
    "clip_grad_norm": 1.0,
    "schedule": {"name": "cosine", "warmup_steps": 2},
}
KEYS = {"lora": {"rank": 2}, "gradual": {"thaw_at": [0.2, 0.4, 0.6, 0.8]}}


@pytest.fixture
def train(tiny, small_classifier):
    """A training of the small classifier in a mode -> what it comes to, and the merged model."""

    class Objective(tiny.Objective):
        def loss(self, model, batch):
            return super().loss(lambda images: model(images).main, batch)

        def predict(self, model, batch):
            return model(batch["images"]).main.argmax(1).tolist()

    def run(mode, folder, stop_at=None, **changes):
        model = small_classifier()
        plan = adapt(model, MODES[mode].model_validate({"mode": mode, **KEYS.get(mode, {})})) if mode else Plan()
        monitor = tiny.Monitor(stop_at)
        result, _, _ = tiny.train(
            model, objective=Objective(), monitor=monitor, folder=folder, plan=plan, **(FULL | changes)
        )
        plan.merge()
        return result, model.state_dict(), monitor

    return run


def differing(first, second):
    assert first.keys() == second.keys()
    return {name for name in first if not torch.equal(first[name], second[name])}


@pytest.mark.parametrize(
    ("mode", "stop_at"),
    [*((mode, 6) for mode in MODES), *((mode, at) for mode in ("gradual", "lora") for at in (1, 11))],
)
def test_goes_on_after_an_interruption_to_the_same_bits(train, small_classifier, monkeypatch, mode, stop_at):
    whole, model, _ = train(mode, "whole")
    monkeypatch.setattr(loop, "SAVE_EVERY_S", -1.0)
    with pytest.raises(KeyboardInterrupt):
        train(mode, "state", stop_at)
    resumed, again, monitor = train(mode, "state")
    assert monitor.told[0][1] == stop_at
    assert vars(resumed) == vars(whole)
    assert not differing(model, again)
    moved = differing(model, small_classifier().state_dict())
    assert {"heads.fc.weight", "heads.fc.bias"} <= moved
    assert any(name.startswith("backbone") for name in moved) is (mode != "head")


def test_full_is_the_training_without_a_plan(train):
    plain, model, _ = train(None, "plain")
    full, again, _ = train("full", "full")
    assert vars(full) == vars(plain) and not differing(model, again)


def test_early_stopping_gives_the_best_weights_merged(train):
    constant = {"schedule": {"name": "constant"}, "ema_decay": None}
    result, model, _ = train("lora", "long", steps=40, validate_every=2, early_stopping={"patience": 2}, **constant)
    assert result.stopped_early
    _, short, _ = train("lora", "short", steps=result.best_step, val=False, early_stopping=None, **constant)
    assert not differing(model, short)
