"""A model on disk: weights.safetensors, model.json (all that rebuilds it) and history.json (how it was trained)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from stages.models import backbones
from stages.models.backbone import Backbone
from stages.models.weights import load_weights, save_weights
from stages.params.files import replacing_folder, write_atomically

WEIGHTS, FACTS, HISTORY = "weights.safetensors", "model.json", "history.json"


def write(folder: Path, module: nn.Module | None, facts: Mapping[str, Any], history: Any) -> None:
    """Write a model folder whole: under a temporary name, then renamed."""
    with replacing_folder(folder) as temporary:
        if module is not None:
            save_weights(module, temporary / WEIGHTS)
        write_json(temporary / FACTS, facts)
        write_json(temporary / HISTORY, history)


def write_json(path: Path, content: Any) -> None:
    """Readable JSON with sorted keys, on the disk when this returns."""
    write_atomically(path, (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())


def facts(folder: Path) -> dict[str, Any]:
    """model.json of a folder."""
    return json.loads((folder / FACTS).read_text(encoding="utf8"))


def history(folder: Path) -> list[dict[str, float]]:
    """history.json of a folder: losses, learning rate or metrics by step."""
    return json.loads((folder / HISTORY).read_text(encoding="utf8"))


def differing_tensors(first: Path, second: Path) -> dict[str, float]:
    """Tensor -> largest absolute difference, for those of two weight files that differ; infinite where shapes do."""
    a, b = load_file(first), load_file(second)
    found = {}
    for name in sorted(a.keys() | b.keys()):
        if name not in a or name not in b or a[name].shape != b[name].shape:
            found[name] = float("inf")
        elif not torch.equal(a[name], b[name]):
            found[name] = float((a[name].double() - b[name].double()).abs().max())
    return found


def read_backbone(folder: Path, with_weights: bool = True) -> Backbone:
    """The backbone of models/BACKBONE; without weights it stays as torch's generator initialises it."""
    made = facts(folder)
    backbone = backbones.build(made["arch"], stem=made["stem"])
    if with_weights:
        load_weights(backbone, folder / WEIGHTS)
    return backbone
