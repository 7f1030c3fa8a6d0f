"""Saliency: where a model looks."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from stages.models import backbones
from stages.tasks.saliency import explain
from stages.tasks.task import Explained


class Corner:
    """Images of noise with a bright square in one corner: left above, right below, ..."""

    image_shape = (3, 64, 64)

    def __len__(self):
        return 3

    def load(self, index, epoch, image):
        image.copy_(torch.randint(0, 20, self.image_shape, generator=torch.Generator().manual_seed(index)))
        y, x = [(8, 8), (40, 40), (8, 40)][index]
        image[:, y : y + 16, x : x + 16] = 250
        return {"key": str(index), "target": 0}


class Bright(nn.Module):
    """A backbone of one layer with 8 px cells, whose only channel is how bright a cell is."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.AvgPool2d(8), nn.Conv2d(3, 1, 1), nn.ReLU())
        nn.init.constant_(self.net[1].weight, 1.0)
        nn.init.zeros_(self.net[1].bias)
        self.strides = (8,)

    @property
    def backbone(self):
        return self

    def explained_layer(self, stage):
        return self.net[2]

    def as_map(self, output, image_size):
        return output

    def forward(self, images):
        return self.net(images).sum((1, 2, 3))


class Brightness:
    def explained(self, model, batch):
        return Explained(model(batch["images"])[0], "bright")


def test_the_heat_lies_where_the_evidence_is():
    found = explain(Brightness(), Bright(), Corner(), 3)
    assert [s.key for s in found] == ["0", "1", "2"]
    for saliency, (y, x) in zip(found, [(8, 8), (40, 40), (8, 40)], strict=True):
        assert saliency.heat.shape == (64, 64)
        assert saliency.heat.max() == pytest.approx(1)
        inside = saliency.heat[y : y + 16, x : x + 16]
        assert inside.mean() > 0.5
        assert inside.sum() > 0.5 * saliency.heat.sum()


def test_nothing_found_is_no_heat():
    nothing = SimpleNamespace(explained=lambda model, batch: Explained(None, "nothing found"))
    (saliency,) = explain(nothing, Bright(), Corner(), 1)
    assert (saliency.heat, saliency.words) == (None, "nothing found")


@pytest.mark.parametrize("arch", ["resnet18", "vgg11", "googlenet", "mobilenet_v3_small", "vit_ti_16", "swin_t"])
def test_every_family_of_backbones_can_be_explained_twice_alike(arch):
    torch.manual_seed(0)
    backbone = backbones.build(arch, stem="imagenet")
    model = nn.Module()
    model.backbone = backbone
    pooled = SimpleNamespace(explained=lambda m, b: Explained(m.backbone(b["images"])[0, :8].sum(), "x"))
    first, second = (explain(pooled, model, Corner(), 1)[0].heat for _ in range(2))
    assert np.isfinite(first).all() and first.max() == pytest.approx(1)
    assert (first == second).all()
