"""What an interrupted training goes on from: one file, outside every stage output."""

import shutil
from pathlib import Path
from typing import Any

import torch

from stages.params.files import replacing


class Checkpoint:
    """The last state of a training, in a folder named by the hash of all that the training depends on."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "state.pt"

    def load(self) -> dict[str, Any] | None:
        """The saved state, tensors on the CPU; None when there is none."""
        if not self.file.exists():
            return None
        return torch.load(self.file, map_location="cpu", weights_only=True)

    def save(self, state: dict[str, Any]) -> None:
        """Replace the saved state; a crash leaves the old one or the new one."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.file) as file:
            torch.save(state, file)

    def remove(self) -> None:
        """Forget the state: the training is complete."""
        shutil.rmtree(self.file.parent, ignore_errors=True)
