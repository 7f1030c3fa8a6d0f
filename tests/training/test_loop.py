"""The loop: it learns, repeats itself to the bit, goes on where it was interrupted, and says when it can't go on."""

import math

import pytest
import torch
from torch import nn

from stages.data.loader import normalised
from stages.training import loop


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def losses(result):
    return [entry["loss"] for entry in result.history if "loss" in entry]


def test_learns_what_can_be_told_apart(tiny):
    result, model, monitor = tiny.train(steps=40, validate_every=20)
    assert losses(result)[0] > 0.8 and losses(result)[-1] < 0.2
    assert result.best_metric == 1.0 and result.best_step in (20, 40) and not result.stopped_early
    assert not model.training
    assert [(what, step) for what, step, _ in monitor.told if what == "metrics"] == [("metrics", 20), ("metrics", 40)]
    assert {"loss", "lr", "images_per_s", "data_wait_share", "peak_memory_mib"} <= monitor.told[0][2].keys()


def test_history_repeats_and_holds_no_clock(tiny):
    first, model, _ = tiny.train(folder="a")
    second, again, _ = tiny.train(folder="b")
    assert first.history == second.history
    assert_same(weights(model), weights(again))
    assert {key for entry in first.history for key in entry} == {"step", "loss", "lr", "val_accuracy", "val_num_images"}


def test_another_seed_gives_another_training(tiny):
    assert losses(tiny.train(folder="a")[0]) != losses(tiny.train(folder="b", seed=4)[0])


def test_number_of_threads_changes_nothing(tiny):
    first, model, _ = tiny.train(folder="a", threads=1)
    second, again, _ = tiny.train(folder="b", threads=4)
    assert first.history == second.history
    assert_same(weights(model), weights(again))


# All that a training keeps between two steps: average, dropout, best weights, counters, momenta, warm-up.
FULL = {
    "steps": 14,
    "batch_size": 5,  # batches go across epochs of 24
    "ema_decay": 0.9,
    "validate_every": 3,
    "early_stopping": {"patience": 50},
    "clip_grad_norm": 1.0,
    "schedule": {"name": "cosine", "warmup_steps": 4},
}


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize(
    ("stop_at", "stop_in"), [(1, "losses"), (2, "losses"), (9, "losses"), (6, "metrics"), (14, "losses")]
)
def test_goes_on_after_an_interruption_to_the_same_bits(tiny, monkeypatch, optimizer, stop_at, stop_in):
    changes = FULL | {"optimizer": {"name": optimizer, "lr": 0.02}}
    whole, model, _ = tiny.train(net={"dropout": 0.3}, folder="whole", **changes)
    monkeypatch.setattr(loop, "SAVE_EVERY_S", -1.0)
    with pytest.raises(KeyboardInterrupt):
        tiny.train(net={"dropout": 0.3}, monitor=tiny.Monitor(stop_at, stop_in), **changes)
    first_weights = 0 if stop_at == 1 else 99  # what was saved is all that counts, once anything was
    resumed, again, monitor = tiny.train(net={"dropout": 0.3}, init=first_weights, **changes)
    assert monitor.told[0][1] == stop_at, "it should go on from the step after the last save"
    assert vars(resumed) == vars(whole)
    assert_same(weights(model), weights(again))


def test_goes_on_from_a_save_some_steps_back(tiny, monkeypatch):
    whole, model, _ = tiny.train(net={"dropout": 0.3}, folder="whole", **FULL)
    clock = iter([0, *[1] * 3, 100, *[101] * 50])  # read once at the start, after each step, and after each save
    monkeypatch.setattr(loop.time, "monotonic", lambda: next(clock))
    with pytest.raises(KeyboardInterrupt):
        tiny.train(net={"dropout": 0.3}, monitor=tiny.Monitor(11), **FULL)
    monkeypatch.undo()
    resumed, again, monitor = tiny.train(net={"dropout": 0.3}, **FULL)
    assert monitor.told[0][1] == 5
    assert vars(resumed) == vars(whole)
    assert_same(weights(model), weights(again))


def test_several_interruptions(tiny, monkeypatch):
    whole, model, _ = tiny.train(net={"dropout": 0.3}, folder="whole", **FULL)
    monkeypatch.setattr(loop, "SAVE_EVERY_S", -1.0)
    for stop_at in (3, 4, 12):
        with pytest.raises(KeyboardInterrupt):
            tiny.train(net={"dropout": 0.3}, monitor=tiny.Monitor(stop_at), **FULL)
    resumed, again, _ = tiny.train(net={"dropout": 0.3}, **FULL)
    assert vars(resumed) == vars(whole)
    assert_same(weights(model), weights(again))


def test_early_stopping_counts_on_after_an_interruption(tiny, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_EVERY_S", -1.0)
    changes = {"steps": 40, "validate_every": 2, "early_stopping": {"patience": 3}}
    with pytest.raises(KeyboardInterrupt):
        tiny.train(objective=tiny.Scripted([0.5, 0.4, 0.3]), monitor=tiny.Monitor(7), **changes)
    result, _, _ = tiny.train(objective=tiny.Scripted([0.2, 0.9]), **changes)  # 0.9 comes too late
    assert (result.stopped_early, result.best_step, result.best_metric) == (True, 2, 0.5)
    assert result.history[-1] == {"step": 8, "val_accuracy": 0.2}


@pytest.mark.parametrize("accumulate", [2, 3, 6])
def test_accumulated_gradients_are_those_of_the_whole_batch(tiny, accumulate):
    changes = {"steps": 3, "optimizer": {"name": "sgd", "lr": 0.1}, "clip_grad_norm": 0.05}
    whole, model, _ = tiny.train(net={"norm": False}, folder="whole", **changes)
    parts, again, _ = tiny.train(net={"norm": False}, folder="parts", accumulate=accumulate, **changes)
    torch.testing.assert_close(weights(again), weights(model), rtol=1e-5, atol=1e-6)
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-5)


def test_one_step_is_that_of_plain_torch(tiny):
    """Against the same step written by hand: normalise, cross-entropy, SGD with Nesterov's momentum and decay."""
    torch.manual_seed(0)
    model, expected = tiny.Net(norm=False), tiny.Net(norm=False)
    expected.load_state_dict(model.state_dict())
    optimizer = {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0, "backbone_lr_ratio": 0.5}
    tiny.train(model, steps=1, batch_size=24, val=False, optimizer=optimizer, schedule={"name": "constant"})
    images = torch.empty(24, 3, 6, 6, dtype=torch.uint8)
    targets = torch.tensor([tiny.Squares().load(i, 0, images[i])["target"] for i in range(24)])
    inputs = normalised(images, torch.device("cpu"), False)
    nn.functional.cross_entropy(expected(inputs), targets).backward()
    for name, weight in expected.named_parameters():
        rate = 0.05 if name.startswith("backbone") else 0.1
        after = weight.detach() - rate * (1 + 0.9) * weight.grad
        torch.testing.assert_close(model.get_parameter(name).detach(), after, rtol=1e-4, atol=1e-6)


def test_gradients_are_clipped_to_their_norm(tiny):
    torch.manual_seed(0)
    model = tiny.Net(norm=False)
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    plain = {"name": "sgd", "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0}
    changes = {"steps": 1, "val": False, "optimizer": plain, "schedule": {"name": "constant"}}
    tiny.train(model, clip_grad_norm=0.01, **changes)
    moved = torch.cat([p.detach().flatten() for p in model.parameters()]) - before
    assert float(moved.norm()) == pytest.approx(0.01, rel=1e-3)


def test_early_stopping_keeps_the_best_weights(tiny):
    constant = {"schedule": {"name": "constant"}}
    script = tiny.Scripted([0.3, 0.6, 0.5, 0.6, 0.4])
    result, model, _ = tiny.train(
        objective=script, folder="a", steps=30, validate_every=2, early_stopping={"patience": 3}, **constant
    )
    assert (result.stopped_early, result.best_step, result.best_metric) == (True, 4, 0.6)
    assert max(entry["step"] for entry in result.history) == 10
    assert_same(weights(model), weights(tiny.train(folder="b", val=False, steps=4, **constant)[1]))


def test_improvement_under_min_delta_is_none(tiny):
    changes = {"steps": 30, "validate_every": 2, "early_stopping": {"patience": 2, "min_delta": 0.1}}
    result, _, _ = tiny.train(objective=tiny.Scripted([0.3, 0.35, 0.39, 1.0]), **changes)
    assert (result.stopped_early, result.best_step, result.best_metric) == (True, 2, 0.3)


def test_without_validation_it_ends_with_the_last_weights_or_their_average(tiny):
    plain, _, monitor = tiny.train(folder="a", val=False, steps=4)
    assert plain.best_step == 4 and math.isinf(plain.best_metric)
    assert [what for what, _, _ in monitor.told] == ["losses"] * 4
    _, last, _ = tiny.train(folder="b", val=False, steps=4)
    _, average, _ = tiny.train(folder="c", val=False, steps=4, ema_decay=0.9)
    assert not torch.equal(last.head.weight, average.head.weight)


def test_validation_measures_the_average_and_training_goes_on_from_the_weights(tiny):
    plain, _, _ = tiny.train(folder="a", validate_every=2)
    averaged, _, _ = tiny.train(folder="b", validate_every=2, ema_decay=0.99)
    assert losses(plain) == losses(averaged)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_it_with_advice(tiny, value):
    class Exploding(tiny.Objective):
        calls = 0

        def loss(self, model, batch):
            self.calls += 1
            return super().loss(model, batch) | {
                "loss_extra": model.head.weight.sum() * (value if self.calls > 2 else 0)
            }

    with pytest.raises(FloatingPointError) as caught:
        tiny.train(objective=Exploding())
    assert str(caught.value).startswith("loss loss_extra is ") and "at step 3 of 12 (lr 0.02)" in str(caught.value)
    assert "training.optimizer.lr" in str(caught.value) and "training.clip_grad_norm" in str(caught.value)


def test_a_metric_that_is_not_defined_ends_it_with_a_reason(tiny):
    with pytest.raises(ValueError, match="accuracy is undefined on the validation split"):
        tiny.train(objective=tiny.Scripted([None]))


def test_frozen_parts_stay_as_they_are(tiny):
    model = tiny.Net()
    before = weights(model)
    model.backbone.requires_grad_(False)
    tiny.train(model, val=False, ema_decay=0.5, optimizer={"lr": 0.1, "weight_decay": 1.0})
    after = weights(model)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    statistics = {"backbone.1.running_mean", "backbone.1.running_var", "backbone.1.num_batches_tracked"}
    assert moved == {"head.weight", "head.bias"} | statistics


def test_an_error_in_a_sample_ends_it(tiny):
    class Torn(tiny.Squares):
        def load(self, index, epoch, image):
            raise OSError("shard 7 ends early")

    with pytest.raises(OSError, match="shard 7"):
        tiny.train(samples=Torn())


@pytest.mark.parametrize(
    ("given", "steps"), [({"steps": 7}, 7), ({"epochs": 3, "steps": None}, 30), ({"epochs": 0.01, "steps": None}, 1)]
)
def test_number_of_steps(tiny, given, steps):
    assert loop.num_steps(tiny.params(**given, batch_size=10), num_samples=100) == steps


def test_bf16_trains_too_and_keeps_fp32_weights(tiny):
    result, model, _ = tiny.train(precision="bf16", steps=30)
    assert model.head.weight.dtype == torch.float32 and losses(result)[-1] < losses(result)[0] / 2


def test_scalars_leaves_out_what_is_no_number():
    assert loop.scalars({"a": 1, "b": 0.5, "c": None, "d": {}, "e": [1]}) == {"a": 1.0, "b": 0.5}
