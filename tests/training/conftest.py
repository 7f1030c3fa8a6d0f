"""A training of milliseconds: small coloured squares, a network of a few weights, and who watches it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stages.data.loader import Loader
from stages.models.adaptation.plan import Plan
from stages.params.training import TrainingParams
from stages.training import loop
from stages.training.checkpoint import Checkpoint


class Squares:
    """Samples of three classes, told apart by the channel that is bright; the noise depends on the epoch."""

    image_shape = (3, 6, 6)

    def __init__(self, num=24):
        self.num = num

    def __len__(self):
        return self.num

    def load(self, index, epoch, image):
        noise = np.random.default_rng([index, epoch]).integers(0, 100, self.image_shape)
        noise[index % 3] += 120
        image.copy_(torch.from_numpy(noise.astype(np.uint8)))
        return {"key": f"{index:016x}", "target": index % 3}


class Net(nn.Module):
    """A backbone and a head, as the models of tasks have them."""

    def __init__(self, norm=True, dropout=0.0):
        super().__init__()
        layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8) if norm else nn.Identity(), nn.ReLU()]
        self.backbone = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(8, 3)

    def forward(self, images):
        return self.head(self.dropout(self.backbone(images)))


class Accuracy:
    def __init__(self):
        self.hits = []

    def update(self, predictions, targets):
        self.hits += [p == t for p, t in zip(predictions, targets, strict=True)]

    def compute(self):
        return {"accuracy": float(np.mean(self.hits)), "num_images": len(self.hits), "per_class": {}, "unknown": None}


class Objective:
    main_metric = "accuracy"

    def loss(self, model, batch):
        return {"loss": F.cross_entropy(model(batch["images"]).float(), torch.tensor(batch["target"]))}

    def predict(self, model, batch):
        return model(batch["images"]).argmax(1).tolist()

    def metric(self):
        return Accuracy()


class Scripted(Objective):
    """An objective whose validation gives the numbers of a list, whatever the model."""

    def __init__(self, values):
        self.values = list(values)

    def metric(self):
        return SimpleNamespace(update=lambda p, t: None, compute=lambda: {"accuracy": self.values.pop(0)})


class Monitor:
    """Keeps what it is told; stops the training, as a power cut would, when it is told of a step."""

    def __init__(self, stop_at=None, stop_in="losses"):
        self.stop_at, self.stop_in, self.told = stop_at, stop_in, []

    def losses(self, step, steps, values):
        self._note("losses", step, values)

    def metrics(self, step, steps, values):
        self._note("metrics", step, values)

    def _note(self, what, step, values):
        self.told.append((what, step, values))
        if (what, step) == (self.stop_in, self.stop_at):
            raise KeyboardInterrupt


DEFAULTS = {
    "steps": 12, "batch_size": 6, "precision": "fp32", "log_every": 1, "validate_every": 4,
    "optimizer": {"lr": 0.02},
}  # fmt: skip


@pytest.fixture
def tiny(tmp_path):
    """The parts above, and train(**changes of the parameters) -> (result, model, monitor)."""

    def params(**changes):
        return TrainingParams.model_validate({**DEFAULTS, **changes})

    def train(
        model=None,
        net=None,
        init=0,
        objective=None,
        monitor=None,
        samples=None,
        folder="state",
        seed=3,
        threads=2,
        val=True,
        plan=Plan(),
        **changes,
    ):
        torch.manual_seed(init)
        model = model or Net(**(net or {}))
        monitor = monitor or Monitor()
        made = params(**changes)
        train = Loader(samples or Squares(), made.batch_size, seed, threads)
        loaders = train, Loader(Squares(9), made.batch_size, seed)
        result = loop.fit(
            objective or Objective(), model, loaders[0], loaders[1] if val else None, made,
            Checkpoint(tmp_path / folder), monitor, plan,
        )  # fmt: skip
        return result, model, monitor

    return SimpleNamespace(
        params=params, train=train, Net=Net, Monitor=Monitor, Objective=Objective, Scripted=Scripted, Squares=Squares
    )
