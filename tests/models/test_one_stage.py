"""What all one-stage detectors keep: finite losses, float32 boxes, no box outside the content, true places."""

import copy
from functools import cache

import pytest
import torch
from torchvision.ops import box_iou

from stages.models import backbones, fcos, retinanet, ssd, yolo
from stages.models.one_stage import OneStageDetector
from stages.params.document import task_section

HEIGHT, WIDTH = 64, 96
SECTIONS = {
    "retinanet": {"fpn_channels": 32, "anchor_sizes_px": [24, 48, 96], "scales_per_octave": 2},
    "fcos": {"fpn_channels": 32, "num_levels": 4, "head_convs": 1},
    "ssd": {"anchor_sizes_px": [16, 32, 64, 96, 128], "added_channels": 16},
    "yolo": {"neck_channels": 16, "head_convs": 1},
}
MODULES = {"retinanet": retinanet, "fcos": fcos, "ssd": ssd, "yolo": yolo}
NO_BOXES = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


@cache
def untrained(backbone: str) -> backbones.Backbone:
    torch.manual_seed(0)
    return backbones.build(backbone)


def detector(arch: str, num_classes: int = 3, backbone: str = "resnet18", **section) -> OneStageDetector:
    torch.manual_seed(0)
    keys = {"arch": arch, arch: SECTIONS[arch] | section}
    params = task_section({"kind": "detection", "dataset": "d", "backbone": "b", "training": {"steps": 1}, **keys})
    return MODULES[arch].build(copy.deepcopy(untrained(backbone)), num_classes, params)


def target(*rows: tuple[float, float, float, float, int]) -> dict[str, torch.Tensor]:
    return {"boxes": torch.tensor([r[:4] for r in rows]), "labels": torch.tensor([r[4] for r in rows])}


def batch() -> tuple[torch.Tensor, list[tuple[int, int]], list[dict[str, torch.Tensor]]]:
    images = torch.rand(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(2))
    targets = [target((8, 10, 50, 60, 1), (60, 20, 96, 64, 3)), target((30.0, 5.0, 70.0, 45.0, 2))]
    return images, [(HEIGHT, WIDTH)] * 2, targets


@pytest.fixture(params=MODULES)
def arch(request) -> str:
    return request.param


def test_gradients_reach_every_parameter(arch):
    model = detector(arch)
    images, sizes, _ = batch()
    of_all_sizes = target((8, 10, 24, 26, 1), (30, 20, 62, 52, 2), (0, 0, 64, 64, 3), (0.0, 0.0, 96.0, 64.0, 1))
    losses = model(images, sizes, [of_all_sizes, of_all_sizes])
    assert all(loss.shape == () and torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    unused = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not unused


@pytest.mark.parametrize("targets", [[NO_BOXES, NO_BOXES], [NO_BOXES, target((3.0, 3.0, 60.0, 50.0, 1))]])
def test_images_without_boxes_train(arch, targets):
    model = detector(arch)
    images, sizes, _ = batch()
    losses = model(images, sizes, targets)
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert losses["loss_classifier"] > 0
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)


@torch.no_grad()
def test_it_starts_from_few_objects(arch):
    model = detector(arch).eval()
    _, scores = model.boxes_and_scores(model.outputs(model.backbone.features(batch()[0])[model.levels.first :]))
    assert scores.shape[2] == 3
    # One in a hundred (Lin et al. 2017), or of the places that SSD's loss counts, one in four, over three classes.
    assert scores.mean() < (0.2 if arch == "ssd" else 0.1)


@torch.no_grad()
def test_detections_stay_inside_the_content(arch):
    model = detector(arch, score_threshold=0.0).eval()
    images, _, _ = batch()
    sizes = [(40, 50), (HEIGHT, 30)]
    for found, (height, width) in zip(model(images, sizes), sizes, strict=True):
        boxes = found["boxes"]
        assert len(boxes) and (boxes >= 0).all() and (boxes <= torch.tensor([width, height] * 2)).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert set(found["labels"].tolist()) <= {1, 2, 3}
        assert found["scores"].equal(found["scores"].sort(descending=True).values)


@torch.no_grad()
def test_an_image_is_seen_alike_alone_and_in_a_batch(arch):
    model = detector(arch, score_threshold=0.0).eval()
    images, sizes, _ = batch()
    together, alone = model(images, sizes)[1], model(images[1:], sizes[1:])[0]
    torch.testing.assert_close(together["scores"][:20], alone["scores"][:20], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together["boxes"][:5], alone["boxes"][:5], rtol=1e-3, atol=1e-2)


def encoded(model: OneStageDetector, outputs: dict[str, torch.Tensor], box: torch.Tensor) -> dict[str, torch.Tensor]:
    """The outputs of a head that says the same box and the first class at every place."""
    if isinstance(model, fcos.FCOS):
        cells = outputs["cells"]
        sides = model.head.box_coder.encode(cells, box.expand_as(cells))
        return outputs | {"bbox_regression": sides[None]}
    if isinstance(model, yolo.YOLO):
        sides = yolo.sides_from(box.expand(len(outputs["centres"]), 4), outputs["centres"], outputs["strides"])
        low, bins = sides.floor().clamp(min=0), torch.arange(outputs["bins"].shape[-1])
        near = (1 - (sides[..., None] - bins).abs()).clamp(min=0).where(low[..., None] >= 0, 0)
        return outputs | {"bins": near.clamp(min=1e-12).log()[None]}
    anchors = outputs["anchors"]
    return outputs | {"bbox_regression": model.coder.encode_single(box.expand_as(anchors), anchors)[None]}


@pytest.mark.parametrize("rows", [(20.0, 12.5, 61.0, 50.0), (0.0, 0.0, 96.0, 64.0), (33.0, 7.0, 40.0, 15.0)])
@torch.no_grad()
def test_a_box_that_is_encoded_at_a_place_is_decoded_there(arch, rows):
    model = detector(arch).eval()
    box = torch.tensor(rows)
    outputs = model.outputs(model.backbone.features(torch.rand(1, 3, HEIGHT, WIDTH))[model.levels.first :])
    boxes, _ = model.boxes_and_scores(encoded(model, outputs, box))
    inside = torch.ones(boxes.shape[1], dtype=torch.bool)
    if arch in ("fcos", "yolo"):  # a place outside the box can't say it: distances are not negative
        centres = outputs.get("centres", (outputs.get("cells", torch.zeros(1, 4)).view(-1, 2, 2)).mean(1))
        inside = ((centres >= box[:2]) & (centres <= box[2:])).all(1)
    assert inside.any()
    torch.testing.assert_close(boxes[0, inside], box.expand(int(inside.sum()), 4), rtol=1e-4, atol=1e-3)


@torch.no_grad()
def test_places_cover_the_whole_image_and_the_box_under_them(arch):
    # Whatever square object there is, some place of an untrained model lies on it: places are where the pixels are.
    model = detector(arch).eval()
    outputs = model.outputs(model.backbone.features(torch.rand(1, 3, HEIGHT, WIDTH))[model.levels.first :])
    if arch in ("retinanet", "ssd"):
        places = outputs["anchors"]
    else:
        centres, strides = yolo_or_fcos_places(outputs)
        places = torch.cat([centres - 2 * strides, centres + 2 * strides], 1)
    for x in range(0, WIDTH - 24, 12):
        for y in range(0, HEIGHT - 24, 12):
            box = torch.tensor([[x, y, x + 24.0, y + 24.0]])
            assert box_iou(box, places).max() > 0.3


def yolo_or_fcos_places(outputs):
    if "centres" in outputs:
        return outputs["centres"], outputs["strides"][:, None]
    cells = outputs["cells"]
    return (cells[:, :2] + cells[:, 2:]) / 2, (cells[:, 2:3] - cells[:, :1])


@pytest.mark.parametrize(("arch", "backbone"), [("yolo", "vgg11"), ("ssd", "googlenet")])
def test_other_families_train_and_leave_no_layer_idle(arch, backbone):
    model = detector(arch, backbone=backbone)
    assert not [name for name in model.state_dict() if "classifier" in name and "backbone" in name]
    sum(model(*batch()).values()).backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (None, "targets are missing"),
        ([NO_BOXES, target((9.0, 9.0, 9.0, 20.0, 1))], r"image 1 of the batch has a box without area, .*\[9.0, 9.0"),
    ],
)
def test_bad_targets_are_named(arch, targets, message):
    images, sizes, _ = batch()
    with pytest.raises(ValueError, match=message):
        detector(arch)(images, sizes, targets)
