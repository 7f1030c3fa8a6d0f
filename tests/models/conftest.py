"""torchvision's dense detectors around the backbone and neck of ours, and two images that both are asked about."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

HEIGHT, WIDTH = 128, 192
Targets = list[dict[str, Tensor]]


class Body(nn.Module):
    """Our backbone and neck, as torchvision's detector wants them."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.backbone, self.neck, self.first, self.out_channels = model.backbone, model.neck, model.levels.first, 32

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {str(i): level for i, level in enumerate(self.neck(self.backbone.features(x)[self.first :]))}


class Torchvisions(nn.Module):
    """A detector of torchvision for three classes, which count from 1 as ours do, in the mode of ours."""

    def __init__(self, kind: Callable[..., nn.Module], model: nn.Module, **settings: Any) -> None:
        super().__init__()
        plain = {"image_mean": [0.0] * 3, "image_std": [1.0] * 3, "detections_per_img": 100}
        self.net = kind(Body(model), 3, min_size=HEIGHT, max_size=WIDTH, **plain, **settings)
        self.train(model.training)

    def forward(self, images: Tensor, targets: Targets | None = None) -> Any:
        if targets is not None:
            return self.net(list(images), [target | {"labels": target["labels"] - 1} for target in targets])
        return [found | {"labels": found["labels"] + 1} for found in self.net(list(images))]


@pytest.fixture
def around() -> type[Torchvisions]:
    """Makes a detector of torchvision around one of ours."""
    return Torchvisions


@pytest.fixture
def pair() -> tuple[Tensor, list[tuple[int, int]], Targets]:
    """Two images, their sizes and targets."""
    images = torch.rand(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(2))
    several = torch.tensor([[8.0, 10, 50, 60], [60, 20, 180, 127], [70, 30, 100, 50]])
    targets = [
        {"boxes": several, "labels": torch.tensor([1, 3, 2])},
        {"boxes": torch.tensor([[30.0, 5, 70, 45]]), "labels": torch.tensor([2])},
    ]
    return images, [(HEIGHT, WIDTH)] * 2, targets
