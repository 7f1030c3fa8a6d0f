"""Weights in timm's layout: timm's own models with random weights answer as ours do with the same file."""

import copy
import json
import re

import pytest
import safetensors.torch
import torch
from torch import nn

from stages.models import backbones
from stages.models.classifier import Classifier
from stages.models.timm_names import NAMES, converted
from stages.models.vit import resampled
from stages.models.weights import load_weights, save_weights
from stages.params.backbone import ARCHITECTURES

# Our name, timm's name, side of the image in pixels. EfficientNet b5 and V2 have another epsilon here than in timm.
FAST = [("mobilenet_v3_small", "mobilenetv3_small_100", 64), ("vit_ti_16", "vit_tiny_patch16_224", 224)]
LONG = [
    ("resnet18", "resnet18", 64),
    ("vgg11_bn", "vgg11_bn", 224),
    ("inception_v3", "inception_v3", 96),
    ("efficientnet_b0", "efficientnet_b0", 64),
    ("efficientnet_b5", "efficientnet_b5", 64),
    ("efficientnet_v2_s", "efficientnetv2_s", 64),
    ("mobilenet_v2", "mobilenetv2_100", 64),
    ("mobilenet_v3_large", "mobilenetv3_large_100", 64),
    ("convnext_tiny", "convnext_tiny", 64),
    ("swin_t", "swin_tiny_patch4_window7_224", 224),
    ("swin_v2_t", "swinv2_tiny_window8_256", 256),
]


@pytest.fixture(scope="module")
def timm():
    return pytest.importorskip("timm", reason="timm is not installed: it is in the dev extra")


def randomised(model: nn.Module) -> nn.Module:
    """Every tensor away from its initial value, so that none can be left out or swapped unseen."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2, generator=generator)
        elif tensor.is_floating_point() and (tensor.ndim <= 1 or name.endswith(("token", "pos_embed", "bias_table"))):
            tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=0.3)
    return model.eval()


@pytest.mark.parametrize(
    ("arch", "name", "side"), [*FAST, *(pytest.param(*pair, marks=pytest.mark.long) for pair in LONG)]
)
@torch.no_grad()
def test_answers_equal_timms(timm, tmp_path, arch, name, side):
    torch.manual_seed(0)
    theirs = randomised(timm.create_model(name, pretrained=False, num_classes=7))
    file = tmp_path / "model.safetensors"
    safetensors.torch.save_file(theirs.state_dict(), file)
    (tmp_path / "config.json").write_text(json.dumps({"architecture": name, "num_classes": 7}))
    ours = Classifier(backbones.build(arch), 7, auxiliary=False).eval()
    report = load_weights(ours, file)
    assert not (report.missing or report.mismatched or report.unexpected), report
    images = torch.randn(2, 3, side, side)
    expected = theirs(images)
    assert expected.std() > 0.01
    torch.testing.assert_close(ours(images).main, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.long
def test_every_architecture_of_timms_fits_in_names_and_shapes(timm, monkeypatch):
    for name in dir(nn.init):
        if name.endswith("_") and not name.startswith("_"):
            monkeypatch.setattr(nn.init, name, lambda *args, tensor=None, **_: args[0] if args else tensor)
    known = timm.list_models(exclude_filters="tf_*")
    for arch, pattern in NAMES.items():
        names = [name for name in known if re.fullmatch(pattern, name)]
        assert names, arch
        with torch.device("meta"):
            ours = Classifier(backbones.build(arch), 1000, auxiliary=False).state_dict()
            theirs = timm.create_model(names[0], pretrained=False, num_classes=1000).state_dict()
            found, _ = converted(arch, backbones.build(arch).net, theirs)
        expected = {re.sub(r"^(backbone\.net|heads)\.", "", n): tuple(t.shape) for n, t in ours.items()}
        assert {n: tuple(t.shape) for n, t in found.items() if not n.startswith("AuxLogits")} == expected, arch


def test_the_table_names_architectures_that_there_are():
    assert set(NAMES) == set(ARCHITECTURES) - {"googlenet"}


def timms_vit(arch: str = "vit_ti_16") -> dict[str, torch.Tensor]:
    """A state dict in timm's layout, written without timm."""
    names = {
        "class_token": "cls_token", "encoder.pos_embedding": "pos_embed", "conv_proj": "patch_embed.proj",
        "encoder.ln": "norm", "encoder.layers.encoder_layer_": "blocks.", ".ln_": ".norm", ".mlp.0": ".mlp.fc1",
        ".mlp.3": ".mlp.fc2", ".self_attention.in_proj_": ".attn.qkv.", ".self_attention.out_proj": ".attn.proj",
    }  # fmt: skip
    state = {}
    for name, tensor in backbones.build(arch).net.state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        state[name] = tensor
    return state


def test_a_file_in_timms_layout_is_told_and_complete(tmp_path):
    torch.save(timms_vit(), tmp_path / "w.pt")
    backbone = backbones.build("vit_ti_16")
    report = load_weights(backbone, tmp_path / "w.pt")
    assert report.summary() == "w.pt: 150 tensors loaded; timm's names of vit_ti_16 translated"
    assert backbone.net.class_token.equal(timms_vit()["cls_token"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {**s, "dist_token": torch.zeros(1, 1, 192)}, "unexpected: dist_token"),
        (lambda s: {n: t for n, t in s.items() if n != "blocks.3.norm1.bias"}, "missing: .*encoder_layer_3.ln_1.bias"),
        (lambda s: {**s, "blocks.12.norm1.bias": torch.zeros(192)}, "unexpected: .*encoder_layer_12.ln_1.bias"),
        (lambda s: {**s, "pos_embed": torch.zeros(1, 196, 192)}, "another shape: encoder.pos_embedding"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, message):
    torch.save(change(timms_vit()), tmp_path / "w.pt")
    with pytest.raises(ValueError, match=message):
        load_weights(backbones.build("vit_ti_16"), tmp_path / "w.pt")


def test_timms_file_of_another_family_is_refused(tmp_path):
    torch.save(timms_vit(), tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"w.pt does not fit the model; missing: features.0.0"):
        load_weights(backbones.build("mobilenet_v3_small"), tmp_path / "w.pt")


HALF = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


@pytest.mark.parametrize(
    ("arch", "config", "message"),
    [
        (
            "efficientnet_b0",
            {"architecture": "tf_efficientnet_b0"},
            "timm's tf_efficientnet_b0 .*, but efficientnet_b0 is",
        ),
        ("swin_v2_t", {"architecture": "swinv2_tiny_window16_256"}, "but swin_v2_t is timm's swinv2_tiny_window8_256"),
        ("googlenet", {"architecture": "inception_v4"}, "but timm has no googlenet"),
        ("vit_ti_16", {"architecture": "vit_tiny_patch16_224", "pretrained_cfg": HALF}, "set stem to 'inception'"),
        (
            "vit_ti_16",
            {"architecture": "vit_tiny_patch16_384", "pretrained_cfg": {**HALF, "std": [1, 1, 1]}},
            "which no stem gives",
        ),
    ],
)
def test_networks_and_inputs_that_differ_are_refused_by_their_config(tmp_path, arch, config, message):
    torch.save({"x": torch.zeros(1)}, tmp_path / "w.pt")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with torch.device("meta"):
        backbone = backbones.build(arch)
    with pytest.raises(ValueError, match=message):
        load_weights(backbone, tmp_path / "w.pt")


def test_the_inputs_of_a_config_are_those_of_the_stem(tmp_path):
    torch.save(timms_vit(), tmp_path / "w.pt")
    config = {"architecture": "vit_tiny_patch16_224", "pretrained_cfg": HALF}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load_weights(backbones.build("vit_ti_16", stem="inception"), tmp_path / "w.pt").matched


def test_a_config_that_is_not_json_is_named(tmp_path):
    torch.save(timms_vit(), tmp_path / "w.pt")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json, beside the weights, is not JSON: "):
        load_weights(backbones.build("vit_ti_16"), tmp_path / "w.pt")


def test_other_configs_do_not_matter(tmp_path):
    backbone = backbones.build("mobilenet_v3_small")
    save_weights(backbone, tmp_path / "w.safetensors")
    for content in ("{}", "[]", '{"architectures": ["ResNetForImageClassification"]}'):
        (tmp_path / "config.json").write_text(content)
        assert not load_weights(backbone, tmp_path / "w.safetensors").missing


def test_swins_first_layout_is_that_of_its_authors(tmp_path):
    """Merging after its stage, the head without a module of its own, and constants in the file."""
    backbone = backbones.build("swin_t")
    state = {}
    for name, tensor in backbone.net.state_dict().items():
        layer, _, rest = name.removeprefix("features.").partition(".")
        if not name.startswith("features."):
            new = name
        elif layer == "0":
            new = {"0": "patch_embed.proj", "2": "patch_embed.norm"}[rest[0]] + rest[1:]
        elif int(layer) % 2:
            new = f"layers.{int(layer) // 2}.blocks.{rest.replace('mlp.0', 'mlp.fc1').replace('mlp.3', 'mlp.fc2')}"
        else:
            new = f"layers.{int(layer) // 2 - 1}.downsample.{rest}"
        state[new] = tensor
    state |= {"layers.0.blocks.1.attn_mask": torch.zeros(64, 49, 49), "head.weight": torch.zeros(1000, 768)}
    torch.save({"model": state}, tmp_path / "w.pth")
    other = copy.deepcopy(backbone)
    nn.init.zeros_(other.net.features[2].reduction.weight)
    report = load_weights(other, tmp_path / "w.pth")
    assert report.unexpected == ("head.weight",) and not report.missing
    expected = backbone.state_dict()
    assert all(tensor.equal(expected[name]) for name, tensor in other.state_dict().items())


@pytest.mark.parametrize("grid", [(4, 4), (20, 33)])
def test_position_embeddings_are_interpolated_as_timm_does(timm, grid):
    from timm.layers import resample_abs_pos_embed

    table = torch.randn(1, 1 + 14 * 14, 8)
    torch.testing.assert_close(resampled(table, grid), resample_abs_pos_embed(table, list(grid)))
