"""State dicts in timm's layout, under torchvision's names (timm: Wightman 2019, pytorch-image-models).

Each family's translation was compared with timm's own model, output by output (tests/models/test_timm_names.py). Where
a family is not named here (ResNet, Inception v3), timm has torchvision's names.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

State = dict[str, Tensor]

# What timm calls the network that computes the same, as a pattern of the `architecture` in its config.json.
NAMES = {
    **{name: rf"(tv_)?{name}" for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")},
    **{name: name for name in ("resnext50_32x4d", "resnext101_32x8d", "wide_resnet50_2", "wide_resnet101_2")},
    **{name: name for size in (11, 13, 16, 19) for name in (f"vgg{size}", f"vgg{size}_bn")},
    "inception_v3": "inception_v3",
    **{f"efficientnet_b{i}": f"efficientnet_b{i}" for i in range(8)},
    **{f"efficientnet_v2_{size}": f"efficientnetv2_{size}" for size in "sml"},
    "mobilenet_v2": "mobilenetv2_100",
    "mobilenet_v3_small": "mobilenetv3_small_100",
    "mobilenet_v3_large": "mobilenetv3_large_100",
    **{name: name for name in ("convnext_tiny", "convnext_small", "convnext_base", "convnext_large")},
    "vit_ti_16": r"(vit|deit)_tiny_patch16_\d+",
    "vit_s_16": r"(vit|deit)_small_patch16_\d+",
    "vit_b_16": r"(vit|deit)_base_patch16_\d+",
    "vit_b_32": r"vit_base_patch32_\d+",
    "vit_l_16": r"vit_large_patch16_\d+",
    "vit_l_32": r"vit_large_patch32_\d+",
    "swin_t": "swin_tiny_patch4_window7_224",
    "swin_s": "swin_small_patch4_window7_224",
    "swin_b": "swin_base_patch4_window7_224",
    "swin_v2_t": "swinv2_tiny_window8_256",
    "swin_v2_s": "swinv2_small_window8_256",
    "swin_v2_b": "swinv2_base_window8_256",
}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the channels, on the scale 0..1
# Mean and deviation that inputs were made 0 and 1 with -> the stem that takes them so.
_STEM_OF = {(IMAGENET_MEAN, IMAGENET_STD): "imagenet", ((0.5,) * 3, (0.5,) * 3): "inception"}
# timm's batch norms have torch's epsilon, torchvision's EfficientNet b5 to b7, EfficientNetV2 and MobileNetV3 another.
_EPSILON = 1e-5


def check_config(arch: str, stem: str, file: Path) -> None:
    """ValueError when the config.json that timm writes beside its weights says that they are for something else.

    Networks may differ in what no tensor shows: padding (tf_efficientnet_b0), size of windows, range of the input.
    """
    config = file.with_name("config.json")
    content = _read(config) if config.is_file() else {}
    if "architecture" not in content:
        return
    named = str(content["architecture"])
    if not re.fullmatch(NAMES.get(arch, "no network of timm's"), named):
        expected = f"{arch} is timm's {NAMES[arch]}" if arch in NAMES else f"timm has no {arch}"
        raise ValueError(f"{file.name} holds timm's {named} ({config}), but {expected}; give its weights")
    made_for = content.get("pretrained_cfg", content)
    inputs = (tuple(made_for.get("mean", IMAGENET_MEAN)), tuple(made_for.get("std", IMAGENET_STD)))
    if inputs not in _STEM_OF:
        raise ValueError(f"{file.name} expects inputs of mean and deviation {inputs} ({config}), which no stem gives")
    if _STEM_OF[inputs] != stem:
        raise ValueError(f"{file.name} expects inputs of mean and deviation {inputs}: set stem to {_STEM_OF[inputs]!r}")


def _read(config: Path) -> dict[str, Any]:
    try:
        content = json.loads(config.read_text(encoding="utf8"))
    except ValueError as error:
        raise ValueError(f"{config}, beside the weights, is not JSON: {error}") from None
    return content if isinstance(content, dict) else {}


def converted(arch: str, net: nn.Module, found: Mapping[str, Tensor]) -> tuple[State, tuple[str, ...]]:
    """The state dict, under torchvision's names if it is in timm's layout; and what was done, in words."""
    for family, (mark, translate) in _LAYOUTS.items():
        if arch.startswith(family) and mark in found:
            state = translate(dict(found))
            notes = (f"timm's names of {arch} translated", *_computed(net, state), *_same_epsilon(net, state))
            return state, notes
    return dict(found), ()


def _vgg(found: State) -> State:
    modules = {"pre_logits.fc1": "classifier.0", "pre_logits.fc2": "classifier.3", "head.fc": "classifier.6"}
    return _linear(_moved(found, modules))


def _efficientnet(found: State) -> State:
    blocks = {place: f"features.{place[0] + 1}.{place[1]}" for place in _blocks(found)}
    last = f"features.{max(place[0] for place in blocks) + 2}"
    ends = {"conv_head": f"{last}.0", "bn2": f"{last}.1", "classifier": "classifier.1"}
    return _moved(found, {**_STEM, **_inner_layers(found, blocks, _nested), **ends})


def _mobilenet_v2(found: State) -> State:
    blocks = {place: f"features.{i}" for i, place in enumerate(_blocks(found), start=1)}
    last = f"features.{len(blocks) + 1}"
    ends = {"conv_head": f"{last}.0", "bn2": f"{last}.1", "classifier": "classifier.1"}
    return _moved(found, {**_STEM, **_inner_layers(found, blocks, _flat_at_the_end), **ends})


def _mobilenet_v3(found: State) -> State:
    blocks = {place: f"features.{i}" for i, place in enumerate(_blocks(found), start=1)}
    # The last is a single convolution, and no block in torchvision.
    *inverted, last = blocks
    prefix = "blocks.{}.{}".format(*last)
    modules = _inner_layers(found, {place: blocks[place] for place in inverted}, _nested)
    modules |= {f"{prefix}.conv": f"{blocks[last]}.0", f"{prefix}.bn1": f"{blocks[last]}.1"}
    return _linear(_moved(found, {**_STEM, **modules, "conv_head": "classifier.0", "classifier": "classifier.3"}))


def _moved(found: State, modules: Mapping[str, str]) -> State:
    """Each tensor below the new name of its module; others stay, and are then refused by name."""
    parts = {name: name.rpartition(".") for name in found}
    return {f"{modules.get(module, module)}{dot}{leaf}": found[name] for name, (module, dot, leaf) in parts.items()}


def _linear(state: State) -> State:
    """Classifier layers that timm writes as convolutions over the whole map, as the matrices that they are."""
    return {n: t.flatten(1) if n.startswith("classifier.") and t.ndim == 4 else t for n, t in state.items()}


Place = tuple[int, int]
_STEM = {"conv_stem": "features.0.0", "bn1": "features.0.1"}
# The layers of timm's blocks in their order, by those that tell the kind of block; "se" may be missing.
_KINDS = (
    ({"conv_dw", "conv_pwl"}, (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("se",), ("conv_pwl", "bn3"))),
    ({"conv_exp"}, (("conv_exp", "bn1"), ("se",), ("conv_pwl", "bn2"))),
    ({"conv_dw"}, (("conv_dw", "bn1"), ("se",), ("conv_pw", "bn2"))),
    ({"conv"}, (("conv", "bn1"),)),
)


def _blocks(found: State) -> list[Place]:
    """Stage and number of each block, in their order."""
    places = {tuple(map(int, name.split(".")[1:3])) for name in found if re.match(r"blocks\.\d+\.\d+\.", name)}
    return sorted((stage, block) for stage, block in places)


def _inner_layers(
    found: State, blocks: Mapping[Place, str], place: Callable[[str, int, bool], tuple[str, str]]
) -> dict[str, str]:
    """timm's modules in its blocks -> torchvision's; place: block's name, layer's number, is last -> names of two."""
    modules: dict[str, str] = {}
    for (stage, block), target in blocks.items():
        prefix = f"blocks.{stage}.{block}."
        there = {name.removeprefix(prefix).split(".")[0] for name in found if name.startswith(prefix)}
        kinds = [layers for marks, layers in _KINDS if marks <= there]
        present = [names for names in (kinds[0] if kinds else ()) if there.issuperset(names)]
        for i, names in enumerate(present):
            if names == ("se",):
                new, names = (
                    (f"{target}.block.{i}.fc1", f"{target}.block.{i}.fc2"),
                    ("se.conv_reduce", "se.conv_expand"),
                )
            else:
                new = place(target, i, i == len(present) - 1)
            modules |= {f"{prefix}{old}": name for old, name in zip(names, new, strict=True)}
    return modules


def _nested(target: str, layer: int, is_last: bool) -> tuple[str, str]:
    return f"{target}.block.{layer}.0", f"{target}.block.{layer}.1"


def _flat_at_the_end(target: str, layer: int, is_last: bool) -> tuple[str, str]:
    if is_last:
        return f"{target}.conv.{layer}", f"{target}.conv.{layer + 1}"
    return f"{target}.conv.{layer}.0", f"{target}.conv.{layer}.1"


def _convnext(found: State) -> State:
    inner = {
        "conv_dw": "block.0",
        "norm": "block.2",
        "mlp.fc1": "block.3",
        "mlp.fc2": "block.5",
        "gamma": "layer_scale",
    }
    state = _renamed(found, {
        r"stem\.(\d)": r"features.0.\1",
        r"stages\.(\d+)\.downsample": lambda m: f"features.{2 * int(m[1])}",
        r"stages\.(\d+)\.blocks\.(\d+)\.(conv_dw|norm|mlp\.fc1|mlp\.fc2|gamma)":
            lambda m: f"features.{2 * int(m[1]) + 1}.{m[2]}.{inner[m[3]]}",
        r"head\.norm": "classifier.0",
        r"head\.fc": "classifier.2",
    })  # fmt: skip
    return {n: t[:, None, None] if n.endswith("layer_scale") and t.ndim == 1 else t for n, t in state.items()}


def _vit(found: State) -> State:
    inner = {
        "norm1": "ln_1", "norm2": "ln_2", "mlp.fc1": "mlp.0", "mlp.fc2": "mlp.3",
        "attn.qkv.weight": "self_attention.in_proj_weight", "attn.qkv.bias": "self_attention.in_proj_bias",
        "attn.proj": "self_attention.out_proj",
    }  # fmt: skip
    return _renamed(found, {
        r"blocks\.(\d+)\.(norm[12]|attn\.qkv\.(?:weight|bias)|attn\.proj|mlp\.fc[12])":
            lambda m: f"encoder.layers.encoder_layer_{m[1]}.{inner[m[2]]}",
        "cls_token": "class_token",
        "pos_embed": "encoder.pos_embedding",
        r"patch_embed\.proj": "conv_proj",
        "norm": "encoder.ln",
        "head": "heads.head",
    })  # fmt: skip


def _swin(found: State) -> State:
    """Also the first layout of the authors and timm, which has each merging after its stage, and constants."""
    is_first = "layers.0.downsample.reduction.weight" in found
    constants = (".relative_position_index", ".relative_coords_table", ".attn_mask")
    kept = {name: tensor for name, tensor in found.items() if not name.endswith(constants)}
    return _whole_biases(_renamed(kept, {
        r"patch_embed\.proj": "features.0.0",
        r"patch_embed\.norm": "features.0.2",
        r"layers\.(\d+)\.downsample": lambda m: f"features.{2 * int(m[1]) + (2 if is_first else 0)}",
        r"layers\.(\d+)\.blocks\.(\d+)\.mlp\.fc1": lambda m: f"features.{2 * int(m[1]) + 1}.{m[2]}.mlp.0",
        r"layers\.(\d+)\.blocks\.(\d+)\.mlp\.fc2": lambda m: f"features.{2 * int(m[1]) + 1}.{m[2]}.mlp.3",
        r"layers\.(\d+)\.blocks\.(\d+)": lambda m: f"features.{2 * int(m[1]) + 1}.{m[2]}",
        r"head(\.fc)?": "head",
    }))  # fmt: skip


def _whole_biases(state: State) -> State:
    """Swin v2: queries and values have biases, keys have 0; torchvision keeps the three in one."""
    whole = {n: t for n, t in state.items() if not n.endswith((".attn.q_bias", ".attn.v_bias"))}
    for name in state:
        if name.endswith(".attn.q_bias") and f"{name[:-6]}v_bias" in state:
            q, v = state[name], state[f"{name[:-6]}v_bias"]
            whole[f"{name[:-6]}qkv.bias"] = torch.cat([q, torch.zeros_like(q), v])
    return whole


Rule = str | Callable[[re.Match[str]], str]


def _renamed(found: State, rules: Mapping[str, Rule]) -> State:
    """Each name with its beginning, up to a dot or its end, after the first rule that fits; others stay."""
    compiled = [(re.compile(rf"(?:{pattern})(?=\.|$)"), new) for pattern, new in rules.items()]

    def renamed(name: str) -> str:
        fits = next(((rule, new) for rule, new in compiled if rule.match(name)), None)
        return fits[0].sub(fits[1], name, count=1) if fits else name

    return {renamed(name): tensor for name, tensor in found.items()}


def _computed(net: nn.Module, state: State) -> tuple[str, ...]:
    """Add the constants that torchvision's Swin keeps in its state and timm's does not."""
    names = [name for name, _ in net.named_buffers() if name.endswith(("position_index", "coords_table"))]
    state |= {name: net.get_buffer(name) for name in names}
    return (f"{len(names)} tables of relative positions computed",) if names else ()


def _same_epsilon(net: nn.Module, state: State) -> tuple[str, ...]:
    """Shift running variances so that variance + torchvision's epsilon is variance + timm's: the same outputs."""
    shifts = {
        f"{name}.running_var": _EPSILON - norm.eps
        for name, norm in net.named_modules()
        if isinstance(norm, nn.BatchNorm2d) and norm.eps != _EPSILON and f"{name}.running_var" in state
    }
    state |= {name: state[name] + shift for name, shift in shifts.items()}
    return (f"variances of {len(shifts)} batch norms shifted by {max(shifts.values()):.3g}",) if shifts else ()


# By the beginning of an architecture's name: a tensor that only timm's layout has, and the translation.
_LAYOUTS: dict[str, tuple[str, Callable[[State], State]]] = {
    "vgg": ("pre_logits.fc1.weight", _vgg),
    "efficientnet": ("conv_stem.weight", _efficientnet),
    "mobilenet_v2": ("conv_stem.weight", _mobilenet_v2),
    "mobilenet_v3": ("conv_stem.weight", _mobilenet_v3),
    "convnext": ("stem.0.weight", _convnext),
    "vit": ("patch_embed.proj.weight", _vit),
    "swin": ("patch_embed.proj.weight", _swin),
}
