"""A model's folder: whole, rebuilt from itself, and the same bytes for the same model."""

import json

import pytest
import torch

from stages.models import backbones, folder


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(1)
    return backbones.build("resnet18", stem="small")


FACTS = {"arch": "resnet18", "stem": "small", "classes": ["b", "a"]}
HISTORY = [{"step": 1, "loss": 0.5}]


def contents(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_a_backbone_is_rebuilt_from_its_folder(tmp_path, backbone):
    folder.write(tmp_path / "net", backbone, FACTS, HISTORY)
    assert folder.facts(tmp_path / "net") == FACTS and folder.history(tmp_path / "net") == HISTORY
    again = folder.read_backbone(tmp_path / "net")
    assert (again.arch, again.stem) == ("resnet18", "small")
    saved, read = backbone.state_dict(), again.state_dict()
    assert [name for name in saved if not torch.equal(saved[name], read[name])] == []
    fresh = folder.read_backbone(tmp_path / "net", with_weights=False)
    assert not torch.equal(fresh.net.conv1.weight, backbone.net.conv1.weight)


def test_the_same_model_gives_the_same_bytes(tmp_path, backbone):
    folder.write(tmp_path / "a", backbone, FACTS, HISTORY)
    folder.write(tmp_path / "b", backbone, dict(reversed(FACTS.items())), HISTORY)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_folder_is_replaced_as_a_whole(tmp_path, backbone):
    folder.write(tmp_path / "net", backbone, FACTS, HISTORY)
    (tmp_path / "net" / "stray").write_text("of an older version")
    folder.write(tmp_path / "net", None, {"skipped": "not asked for"}, [])
    assert sorted(contents(tmp_path / "net")) == ["history.json", "model.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


def test_a_write_that_fails_leaves_the_old_folder(tmp_path, backbone):
    folder.write(tmp_path / "net", None, FACTS, HISTORY)
    before = contents(tmp_path / "net")
    with pytest.raises(ValueError, match="not JSON compliant"):
        folder.write(tmp_path / "net", None, FACTS, [{"loss": float("nan")}])
    assert contents(tmp_path / "net") == before
    folder.write(tmp_path / "net", None, {"next": 1}, [])  # what the failure left does not stand in the way
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net"]


def test_json_is_readable_and_sorted(tmp_path):
    folder.write_json(tmp_path / "x.json", {"b": 1, "a": [1.5, None]})
    text = (tmp_path / "x.json").read_text()
    assert list(json.loads(text)) == ["a", "b"] and text.endswith("}\n")
