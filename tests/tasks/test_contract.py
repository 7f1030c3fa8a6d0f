"""What every task must keep, for each kind that there is; nothing here names one."""

import importlib
from typing import Any

import numpy as np
import pytest
import torch

from stages.data.loader import Loader, normalised
from stages.models import backbones
from stages.models.adaptation.adapt import adapt, restore
from stages.params.adaptation import MODES
from stages.params.document import task_kinds
from stages.tasks.saliency import explain
from stages.tasks.trained import predict


@pytest.fixture
def model(task: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    return task.model(backbones.build("resnet18", stem="imagenet"))


@pytest.fixture
def batch(task: Any, drawn: Any) -> dict[str, Any]:
    found = next(Loader(task.samples(drawn), 4, seed=0).in_order())
    return found | {"images": normalised(found["images"], torch.device("cpu"), False)}


def test_every_kind_has_a_section_and_a_task() -> None:
    for kind in task_kinds():
        section = importlib.import_module(f"stages.params.{kind}")
        assert section.Params.model_fields["kind"].default == kind
        assert section.STARTER and section.ANSWERS
        assert importlib.import_module(f"stages.tasks.{kind}").Task.columns


def test_every_kind_erases_if_it_is_asked_to(task: Any, drawn: Any) -> None:
    """A key of the augmentation that did nothing would mislead."""
    images = []
    for share in (0.0, 1.0):
        augmentation = task.params.augmentation.model_copy(update={"random_erasing": share})
        task.params = task.params.model_copy(update={"augmentation": augmentation})
        samples = task.samples(drawn, augment_seed=0)
        images.append(torch.empty(samples.image_shape, dtype=torch.uint8))
        samples.load(0, 0, images[-1])
    assert not torch.equal(*images)


def test_the_main_metric_is_among_the_curves(task: Any) -> None:
    assert task.main_metric in task.curve_metrics


def test_loss_is_finite_and_gradients_reach_exactly_what_trains(
    task: Any, model: torch.nn.Module, batch: dict[str, Any], mode: str
) -> None:
    beside = {name for name, _ in model.named_parameters() if not name.startswith("backbone.")}
    plan = adapt(model, MODES[mode]())
    # The first step of gradual unfreezing trains the head alone, the last one all.
    for step in {0, 9} if mode == "gradual" else {0}:
        plan.at(step, 10)
        model.train()
        model.zero_grad(set_to_none=True)
        losses = task.loss(model, batch)
        assert all(torch.isfinite(loss) for loss in losses.values())
        sum(losses.values()).backward()
        for name, weight in model.named_parameters():
            assert (weight.grad is not None) == weight.requires_grad, name
            assert weight.requires_grad or name not in beside, name


def test_a_model_on_disk_is_rebuilt_from_its_mode(task: Any, model: torch.nn.Module, mode: str) -> None:
    params = MODES[mode]()
    adapt(model, params).merge()
    with torch.device("meta"):  # shapes are enough
        again = task.model(backbones.build("resnet18"))
        restore(again, params)
    shapes = [{name: tensor.shape for name, tensor in m.state_dict().items()} for m in (model, again)]
    assert shapes[0] == shapes[1]


def test_metric_is_independent_of_batches_and_merging(task: Any, model: torch.nn.Module, drawn: Any) -> None:
    predictions, targets = predict(task, model, task.samples(drawn), batch_size=3)
    whole, first, second = task.metric(), task.metric(), task.metric()
    whole.update(predictions, targets)
    first.update(predictions[2:][::-1], targets[2:][::-1])
    second.update(predictions[:2], targets[:2])
    first.merge(second)
    assert whole.compute() == first.compute()
    assert len(predictions) == 4  # the image without objects among them
    assert all(isinstance(task.answer(p), dict) for p in predictions)


def test_the_surest_answer_can_be_explained(
    task: Any, model: torch.nn.Module, batch: dict[str, Any], drawn: Any
) -> None:
    one = {key: value[1:2] for key, value in batch.items()}
    model.eval()
    said = task.explained(model, one)
    assert said.words
    if said.score is not None:
        assert said.score.shape == ()
        said.score.backward()
        assert any(weight.grad is not None and weight.grad.any() for weight in model.backbone.parameters())
    maps = explain(task, model, task.samples(drawn), 9)
    assert [m.key for m in maps] == [f"{i:016x}" for i in range(1, 5)]
    assert all(m.heat is None or np.isfinite(m.heat).all() for m in maps)


@pytest.mark.slow
def test_one_batch_is_learned_by_heart(task: Any, model: torch.nn.Module, batch: dict[str, Any], drawn: Any) -> None:
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
    metric.update(*predict(task, model, task.samples(drawn)))
    assert metric.compute()[task.main_metric] > 0.5
