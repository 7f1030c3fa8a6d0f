"""The moving average against its formula."""

import pytest
import torch
from torch import nn

from stages.training.ema import WeightAverage


def scalar(value):
    model = nn.BatchNorm1d(1)
    with torch.no_grad():
        model.weight.fill_(value)
    return model


def test_values_by_hand():
    average = WeightAverage(scalar(0.0), decay=0.25)
    average.update(scalar(1.0))  # decay 2/11: under the limit
    assert float(average.state["weight"]) == pytest.approx(9 / 11)
    average.update(scalar(3.0))  # 3/12 = the limit
    assert float(average.state["weight"]) == pytest.approx(0.25 * 9 / 11 + 0.75 * 3)
    average.update(scalar(0.0))  # 4/13 is over it
    assert float(average.state["weight"]) == pytest.approx(0.25 * (0.25 * 9 / 11 + 0.75 * 3))


def test_buffers_are_averaged_and_counters_copied():
    model = scalar(1.0)
    average = WeightAverage(model, decay=0.9)
    model.running_mean += 11
    model.num_batches_tracked += 5
    average.update(model)
    assert float(average.state["running_mean"]) == pytest.approx(9.0)
    assert int(average.state["num_batches_tracked"]) == 5


def test_it_does_not_follow_the_model_by_itself():
    model = scalar(1.0)
    average = WeightAverage(model, decay=0.9)
    with torch.no_grad():
        model.weight.fill_(7.0)
    assert float(average.state["weight"]) == 1.0


def test_goes_on_from_what_was_saved():
    whole, parts = WeightAverage(scalar(0.0), 0.9), WeightAverage(scalar(0.0), 0.9)
    for value in (1.0, 2.0):
        whole.update(scalar(value))
        parts.update(scalar(value))
    again = WeightAverage(scalar(5.0), 0.9)
    again.load_state_dict(parts.state_dict())
    whole.update(scalar(3.0))
    again.update(scalar(3.0))
    assert torch.equal(whole.state["weight"], again.state["weight"]) and again.updates == 3


def test_what_was_saved_comes_to_the_device_of_the_model():
    """A checkpoint is read to the CPU; the model may be elsewhere (here: torch's device without memory)."""
    average = WeightAverage(scalar(0.0).to("meta"), 0.9)
    average.load_state_dict({"updates": 2, "state": {k: v.clone() for k, v in scalar(1.0).state_dict().items()}})
    assert {tensor.device.type for tensor in average.state.values()} == {"meta"}
