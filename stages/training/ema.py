"""The moving average of a model's weights."""

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of a model's state (Polyak & Juditsky 1992), which is often the better model.

    The decay grows as (1 + n) / (10 + n) up to its limit, so that the random start is soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.state = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move towards the model's present weights; whole numbers (counters) are copied."""
        self.updates += 1
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.state[name].lerp_(value, weight)
            else:
                self.state[name].copy_(value)

    def state_dict(self) -> dict[str, Tensor | int | dict[str, Tensor]]:
        """What a checkpoint keeps."""
        return {"updates": self.updates, "state": self.state}

    def load_state_dict(self, saved: dict) -> None:
        """Go on from a checkpoint, whose tensors may lie on another device."""
        self.updates = saved["updates"]
        for name, value in saved["state"].items():
            self.state[name].copy_(value)
