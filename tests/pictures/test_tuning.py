"""Pictures of a search."""

import numpy as np
import pytest

from stages.pictures import tuning


def trial(number, value, state="complete", **values):
    return {"number": number, "value": value, "state": state, "values": values}


TRIALS = [
    trial(0, 0.2, lr=0.001, size=[64, 96], name="sgd"),
    trial(1, 0.6, lr=0.01, size=[128, 160], name="adam"),
    trial(2, 0.1, "pruned", lr=0.1, size=[64, 96], name="adam"),
    trial(3, None, "failed", lr=1.0, size=[64, 96], name="$x_1$"),
]


def test_a_panel_for_the_history_and_each_parameter(decoded):
    one, four = decoded(tuning.study([trial(0, 0.5, lr=0.1)], "ap")), decoded(tuning.study(TRIALS, "ap", {"lr"}))
    assert one.shape[1] == 2 * tuning.PANEL_PX[0] and one.shape[0] == tuning.PANEL_PX[1]
    assert four.shape[:2] == (2 * tuning.PANEL_PX[1], 3 * tuning.PANEL_PX[0])


@pytest.mark.parametrize("trials", [[], [trial(0, None, "failed", lr=1.0)], [trial(0, 0.5, flag=True)], TRIALS[2:]])
def test_searches_that_came_to_little_are_drawn(decoded, trials):
    assert (decoded(tuning.study(trials, "ap")) < 200).any()


def test_each_state_has_its_look_and_the_same_trials_the_same_bytes(decoded):
    told = tuning.study(TRIALS, "ap")
    assert told == tuning.study(TRIALS, "ap")
    assert not np.array_equal(
        decoded(told), decoded(tuning.study([t | {"state": "complete"} for t in TRIALS[:3]], "ap"))
    )
    assert told != tuning.study(TRIALS, "ap", {"lr"})
