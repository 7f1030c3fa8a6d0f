"""What a training has to know of how a backbone is adapted: nothing, where all of it trains at one learning rate."""

from collections.abc import Callable
from dataclasses import dataclass


def _nothing(*_: int) -> None:
    """Where a mode has nothing to do."""


@dataclass(frozen=True)
class Plan:
    """How the training of an adapted model goes; the modes fill in what they need, the rest does nothing."""

    at: Callable[[int, int], None] = _nothing  # step from 0, steps: before each step; depends on these two alone
    lr_scale: Callable[[str], float] = lambda name: 1.0  # name of a parameter -> factor of its learning rate
    merge: Callable[[], None] = _nothing  # after the training: the model's own tensors again, under their own names
    trainable_percent: float = 100.0  # of all parameters, those that are added among them
