"""What the schema knows of architectures without torch (tests/models/test_backbones.py compares with the networks)."""

import pytest

from stages.params.backbone import ARCHITECTURES, HAS_FEATURES, BackboneParams, stems_of, strides_of


def backbone(**changes):
    entry = {"dataset": "pets", "arch": "resnet18", "objective": "supervised", "stem": "imagenet"}
    return BackboneParams.model_validate({**entry, "training": {"steps": 1}, **changes})


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_can_be_asked_for_with_its_stems(arch):
    for stem in stems_of(arch):
        assert backbone(arch=arch, stem=stem).arch == arch
    assert arch in HAS_FEATURES


def test_strides():
    assert strides_of("vit_b_32") == (4, 8, 16, 32) and strides_of("resnet18", "small") == (1, 2, 4, 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arch": "vit_h_14"}, "unknown architecture 'vit_h_14'; there are: resnet18, .*vit_ti_16, vit_s_16"),
        ({"arch": "swin_t", "stem": "small"}, "stem 'small' is for resnets; swin_t has: imagenet, inception"),
        ({"drop_path": 0.1}, "drop_path 0.1: resnet18 has none; families that have it: efficientnet, convnext, vit"),
        ({"arch": "mobilenet_v2", "drop_path": 0.1}, "drop_path 0.1: mobilenet_v2 has none"),
        ({"arch": "swin_t", "drop_path": 1.5}, "drop_path"),
        ({"training": None}, "None is for weights of a file, which then stay as they are: give steps or epochs"),
        ({"weights_sha256": "0" * 64}, "weights_sha256 is of a file: give weights too"),
        ({"weights": "a.pth", "weights_sha256": "0" * 63}, "weights_sha256"),
        (
            {"arch": "googlenet", "weights": "data/googlenet-1378be20.pth"},
            r"weights data/googlenet-1378be20.pth expect inputs in \[-1, 1\]; set stem to 'inception'",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_with_what_does(changes, message):
    with pytest.raises(ValueError, match=message):
        backbone(**changes)


def test_what_goes_together_is_taken():
    assert backbone(arch="swin_t", drop_path=0.2).drop_path == 0.2
    assert backbone(arch="googlenet", stem="inception", weights="googlenet-1378be20.pth").stem == "inception"
    assert (backbone().trained_on, backbone(weights="a.pth", training=None).trained_on) == ("pets", None)
