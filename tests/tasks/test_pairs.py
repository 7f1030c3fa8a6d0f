"""Every architecture of every task on the smallest member of every family of backbones, and the pairs that are not."""

from typing import Any

import pytest
import torch

from stages.data.loader import Loader, normalised
from stages.models import backbones
from stages.models.backbones import FAMILIES
from stages.params import document
from stages.params.backbone import ARCHITECTURES
from stages.tasks.trained import predict

# By their weights; of inception the one that takes small images.
FAMILY_MEMBERS = {
    "resnet": "resnet18",
    "vgg": "vgg11",
    "inception": "googlenet",
    "efficientnet": "efficientnet_b0",
    "mobilenet": "mobilenet_v3_small",
    "convnext": "convnext_tiny",
    "vit": "vit_ti_16",
    "swin": "swin_t",
}


def test_every_family_has_its_member_here() -> None:
    assert {family.__name__.rpartition(".")[2] for family in FAMILIES} == set(FAMILY_MEMBERS)
    assert set(FAMILY_MEMBERS.values()) <= set(ARCHITECTURES)


@pytest.mark.parametrize("family", FAMILY_MEMBERS)
def test_a_pair_trains_a_step_and_predicts(family: str, task: Any, drawn: Any) -> None:
    torch.manual_seed(0)
    model = task.model(backbones.build(FAMILY_MEMBERS[family])).train()
    batch = next(Loader(task.samples(drawn), 2, seed=0).in_order())
    batch["images"] = normalised(batch["images"], torch.device("cpu"), False)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = sum(task.loss(model, batch).values())
    assert torch.isfinite(loss)
    loss.backward()
    optimizer.step()
    changed = [name for name, p in model.named_parameters() if not torch.equal(before[name], p)]
    assert next(iter(before)) in changed  # the backbone's first layer: gradients come all the way
    assert any(not name.startswith("backbone.") for name in changed)
    predictions, targets = predict(task, model, task.samples(drawn))
    assert len(predictions) == len(targets) == len(drawn)


TRAINING = {"steps": 1}


def document_with(backbone: dict[str, Any], task: dict[str, Any]) -> dict[str, Any]:
    """A params.yaml of one task on one backbone."""
    base = {"dataset": "d", "stem": "imagenet", "objective": "supervised", "training": TRAINING}
    entry = {"dataset": "d", "backbone": "b", "training": TRAINING, **task}
    return {"datasets": {"d": {}}, "backbones": {"b": base | backbone}, "tasks": {"t": entry}}


@pytest.mark.parametrize(
    ("backbone", "task", "said"),
    [
        (
            {"arch": "resnet18"},
            {"kind": "classification", "drop_path": 0.1},
            "tasks.t.drop_path 0.1: resnet18 has none; families that have it: efficientnet, convnext, vit, swin",
        ),
        (
            {"arch": "swin_t"},
            {"kind": "classification", "adaptation": "bn_frozen"},
            "tasks.t.adaptation bn_frozen: swin_t has no batch norms, nothing would be frozen; write full",
        ),
        (
            {"arch": "vgg11"},
            {"kind": "classification", "adaptation": "norm_only"},
            "tasks.t.adaptation norm_only: vgg11 has no norms, nothing of it would train; write head",
        ),
        (
            {"arch": "inception_v3", "image_px": 299},
            {"kind": "classification", "image_px": 64},
            "tasks.t.images of 64 px: inception_v3 needs at least 75 px a side",
        ),
        (
            {"arch": "resnet18", "stem": "small"},
            {"kind": "detection", "arch": "faster_rcnn"},
            "tasks.t.faster_rcnn.anchor_sizes_px: 5 levels, but resnet18 has 2 feature maps of stride 4 and more; "
            "give 2 to 3 levels",
        ),
        (
            {"arch": "resnet18", "stem": "small"},
            {"kind": "detection", "arch": "yolo", "yolo": {"finest_stride_px": 16}},
            "tasks.t.yolo.finest_stride_px: 0 levels, but resnet18 has 0 feature maps of stride 16 and more; "
            "give 8 or less",
        ),
        (
            {"arch": "resnet18", "stem": "small"},
            {"kind": "instance_segmentation"},
            "tasks.t.faster_rcnn.anchor_sizes_px: 5 levels",
        ),
        (
            {"arch": "resnet18", "stem": "small"},
            {"kind": "keypoints", "arch": "heatmaps", "heatmaps": {"stride_px": 16}},
            "tasks.t.heatmaps.stride_px 16: the last map of resnet18 has stride 8; give 8 or less",
        ),
        (
            {"arch": "resnet18"},
            {"kind": "segmentation", "arch": "lraspp", "dropout": 0.1},
            "tasks.t: dropout: arch lraspp has none, is 0.1; for fcn and deeplabv3 only",
        ),
        (
            {"arch": "resnet18"},
            {"kind": "keypoints", "arch": "heatmaps", "label_smoothing": 0.1},
            "tasks.t: label_smoothing: heatmaps tell no classes apart, is 0.1; drop it",
        ),
        ({"arch": "vgg11", "stem": "small"}, {"kind": "classification"}, "stem 'small' is for resnets; vgg11 has"),
    ],
)
def test_a_pair_that_is_not_offered_is_refused_with_those_that_are(
    backbone: dict[str, Any], task: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError) as error:
        document.check(document_with(backbone, task))
    assert said in str(error.value)
