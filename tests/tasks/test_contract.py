"""What every task must keep, for each kind that there is."""

import importlib
from typing import Any

import numpy as np
import pytest
import torch

from stages.data.loader import Loader, normalised
from stages.data.samples import Encoded
from stages.models import backbones
from stages.params.document import task_kinds, task_section
from stages.tasks import task as tasks
from stages.tasks.saliency import explain
from stages.tasks.trained import predict

CLASSES = ("disc", "square")
TRAINING = {"steps": 1, "precision": "fp32"}
SIZES = {
    "classification": {"image_px": 32},
    "detection": {
        "image_size_px": [64, 64],
        "faster_rcnn": {
            "fpn_channels": 16, "anchor_sizes_px": [8, 16, 32, 64], "rois_per_image": 16, "head_channels": 32,
            "rpn_proposals_train": 50, "rpn_proposals_test": 20,
        },
    },
}  # fmt: skip


class Drawn:
    """Four images; the third holds no object."""

    def __len__(self) -> int:
        return 4

    def image(self, index: int) -> Encoded:
        import io

        from PIL import Image

        pixels = np.random.default_rng(index).integers(0, 80, (64, 64, 3), dtype=np.uint8)
        if index != 2:
            pixels[16:48, 16:48] = (230, 120, 40) if index % 2 else (40, 120, 230)
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, "PNG")
        return Encoded(f"{index + 1:016x}", data.getvalue(), "RGB", "PNG", 1, 64, 64)

    def value(self, column: str, index: int) -> Any:
        name = CLASSES[index % 2]
        if column == "labels":
            return [name]
        return [] if index == 2 else [{"label": name, "bbox_xyxy": [16, 16, 48, 48], "is_crowd": False}]


def make(kind: str) -> tuple[Any, torch.nn.Module, dict[str, Any]]:
    entry = {"kind": kind, "dataset": "d", "backbone": "b", "training": TRAINING, **SIZES[kind]}
    task = tasks.build(task_section(entry), CLASSES)
    torch.manual_seed(0)
    model = task.model(backbones.build("resnet18", stem="imagenet"))
    batch = next(Loader(task.samples(Drawn()), 4, seed=0).in_order())
    batch["images"] = normalised(batch["images"], torch.device("cpu"), False)
    return task, model, batch


@pytest.fixture(params=task_kinds())
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def test_every_kind_has_a_section_and_a_task() -> None:
    for kind in task_kinds():
        assert importlib.import_module(f"stages.params.{kind}").Params.model_fields["kind"].default == kind
        assert importlib.import_module(f"stages.tasks.{kind}").Task.main_metric
    assert {"classification", "detection"} <= set(task_kinds())


def test_loss_is_finite_and_gradients_reach_exactly_what_trains(kind: str) -> None:
    task, model, batch = make(kind)
    model.backbone.freeze(2)
    model.train()
    losses = task.loss(model, batch)
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    for name, weight in model.named_parameters():
        assert (weight.grad is not None) == weight.requires_grad, name


def test_metric_is_independent_of_batches_and_merging(kind: str) -> None:
    task, model, _ = make(kind)
    predictions, targets = predict(task, model, task.samples(Drawn()), batch_size=3)
    whole, first, second = task.metric(), task.metric(), task.metric()
    whole.update(predictions, targets)
    first.update(predictions[2:][::-1], targets[2:][::-1])
    second.update(predictions[:2], targets[:2])
    first.merge(second)
    assert whole.compute() == first.compute()
    assert len(predictions) == 4  # the image without objects among them
    assert all(isinstance(task.answer(p), dict) for p in predictions)


def test_the_surest_answer_can_be_explained(kind: str) -> None:
    task, model, batch = make(kind)
    one = {key: value[1:2] for key, value in batch.items()}
    model.eval()
    said = task.explained(model, one)
    assert said.words
    if said.score is not None:
        assert said.score.shape == ()
        said.score.backward()
        assert any(weight.grad is not None and weight.grad.any() for weight in model.backbone.parameters())
    maps = explain(task, model, task.samples(Drawn()), 9)
    assert [m.key for m in maps] == [f"{i:016x}" for i in range(1, 5)]
    assert all(m.heat is None or np.isfinite(m.heat).all() for m in maps)


@pytest.mark.slow
def test_one_batch_is_learned_by_heart(kind: str) -> None:
    task, model, batch = make(kind)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    for step in range(80):
        torch.manual_seed(step)
        optimizer.zero_grad()
        sum(task.loss(model, batch).values()).backward()
        optimizer.step()
    for layer in model.modules():  # statistics of so few steps are not settled yet
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None
            layer.reset_running_stats()
    with torch.no_grad():
        for _ in range(3):
            task.loss(model, batch)
    metric = task.metric()
    metric.update(*predict(task, model, task.samples(Drawn())))
    assert metric.compute()[task.main_metric] > 0.5
