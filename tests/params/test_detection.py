"""The five architectures of `kind: detection`: each has its section, and no other one's."""

from typing import get_args

import pytest

from stages.params.detection import Arch
from stages.params.detectors import DetectorParams
from stages.params.document import task_section

ENTRY = {"kind": "detection", "dataset": "d", "backbone": "b", "training": {"steps": 1}}
ARCHS = get_args(Arch)


@pytest.mark.parametrize("arch", ARCHS)
def test_each_has_its_own_section_with_defaults_and_no_other(arch):
    params = task_section(ENTRY | {"arch": arch})
    assert isinstance(getattr(params, arch), DetectorParams)
    assert [name for name in ARCHS if getattr(params, name) is not None] == [arch]


@pytest.mark.parametrize("arch", ARCHS)
def test_what_a_model_was_built_with_loads_again(arch):
    params = task_section(ENTRY | {"arch": arch, arch: {"nms_iou": 0.35}})
    again = task_section(params.model_dump(mode="json"))
    assert again == params and getattr(again, arch).nms_iou == 0.35


def test_the_first_architecture_is_the_default():
    assert task_section(ENTRY | {"faster_rcnn": {"fpn_channels": 64}}).faster_rcnn.fpn_channels == 64
    assert task_section(ENTRY).arch == "faster_rcnn"


def test_a_section_of_another_architecture_is_refused():
    with pytest.raises(ValueError, match="faster_rcnn: is for arch faster_rcnn, but arch is yolo; remove it"):
        task_section(ENTRY | {"arch": "yolo", "yolo": {}, "faster_rcnn": {}})
    with pytest.raises(ValueError, match="ssd: is for arch ssd, but arch is faster_rcnn"):
        task_section(ENTRY | {"ssd": {"candidates": 50}})


@pytest.mark.parametrize(
    ("arch", "key"),
    [
        *[(arch, "dropout") for arch in ("retinanet", "fcos", "ssd", "yolo")],
        *[(arch, "label_smoothing") for arch in ("retinanet", "fcos", "yolo")],
    ],
)
def test_regularisers_that_an_architecture_lacks_are_refused(arch, key):
    with pytest.raises(ValueError, match=f"{key}: arch {arch} has none, is 0.1; for .* only"):
        task_section(ENTRY | {"arch": arch, key: 0.1})


@pytest.mark.parametrize(("arch", "key"), [("faster_rcnn", "dropout"), ("faster_rcnn", "label_smoothing")])
def test_regularisers_that_it_has_are_taken(arch, key):
    assert getattr(task_section(ENTRY | {"arch": arch, key: 0.1}), key) == 0.1


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"arch": "detr"}, "arch: .*, is 'detr'"),
        ({"arch": "fcos", "fcos": {"anchor_sizes_px": [8]}}, "fcos.anchor_sizes_px: unknown key"),
        ({"arch": "yolo", "yolo": {"neck_channels": 33}}, "yolo.neck_channels: .* multiple of 2"),
        ({"arch": "ssd", "ssd": {"anchor_sizes_px": [30]}}, "ssd.anchor_sizes_px: .* at least 2"),
        ({"arch": ["yolo"]}, "arch: "),
    ],
)
def test_wrong_values_are_named(keys, message):
    with pytest.raises(ValueError, match=message):
        task_section(ENTRY | keys)
