"""A backbone of published weights: they are pinned by their hash, stay as they are, and come back in a reproduction."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import torchvision
from ruamel.yaml import YAML
from safetensors.torch import load_file

pytestmark = [pytest.mark.slow, pytest.mark.long]

FILE = "published/resnet18.pth"


def published(file: Path, seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    state = torchvision.models.resnet18(num_classes=7).state_dict()
    file.parent.mkdir(exist_ok=True)
    torch.save(state, file)
    return state


def use_weights(clone: Any) -> None:
    """Instead of a pretraining."""
    yaml = YAML()
    params = yaml.load(clone.root / "params.yaml")
    backbone = params["backbones"]["shapes-resnet18"]
    del backbone["training"]
    backbone["weights"] = FILE
    yaml.dump(params, clone.root / "params.yaml")


def test_weights_stay_as_published_and_no_other_file_takes_their_place(clone: Any) -> None:
    state = published(clone.root / FILE, seed=1)
    use_weights(clone)
    clone.ok("run", "--only", "patterns")

    digest = hashlib.sha256((clone.root / FILE).read_bytes()).hexdigest()
    assert f"weights_sha256: {digest}" in (clone.root / "params.yaml").read_text()
    assert f"weights_sha256={digest}" in clone.git("log", "--format=%s", "--", "params.yaml")
    kept = load_file(clone.root / "models/shapes-resnet18/weights.safetensors")
    assert kept and all(torch.equal(tensor, state[name]) for name, tensor in kept.items())
    facts = json.loads((clone.root / "models/shapes-resnet18/model.json").read_text())
    assert (facts["weights"], facts["weights_sha256"]) == ("resnet18.pth", digest)
    assert "Everything is up to date" in clone.ok("run", "--only", "patterns")

    certificate = json.loads(clone.ok("reproduce", "patterns@challenger", "--json"))
    assert certificate["verdict"] == "equal"
    # The stage waits for shapes-imagenet and learns nothing from it.
    assert [entry["dataset"] for entry in certificate["trained_on"]] == ["shapes-patterns"]
    image = next((clone.root / "data/shapes-imagenet/index").glob("*.parquet"))
    seen = json.loads(clone.ok("trace", f"image:{pq.read_table(image)['sha256'][0].as_py()}", "--json"))
    assert not [model for model in seen["models"] if model["version"] == 2]

    published(clone.root / FILE, seed=2)
    done = clone.stage("pretrain", "shapes-resnet18")
    assert done.returncode == 1
    assert "has sha256" in done.stderr and digest in done.stderr, done.stderr
    (clone.root / FILE).unlink()
    lost = clone.visionline("reproduce", "patterns@challenger")
    assert (lost.returncode, f"put that file there (sha256 {digest})" in lost.stderr) == (1, True), lost.stderr
