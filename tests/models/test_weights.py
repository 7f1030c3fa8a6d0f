"""Weights files: torchvision's names both ways, refusals that change nothing, and repeatable bytes."""

import pickle

import pytest
import safetensors.torch
import torch
import torchvision

from stages.models import backbones
from stages.models.classifier import Classifier
from stages.models.vit import resampled
from stages.models.weights import load_weights, read_weights, save_weights


def backbone(seed: int = 0, arch: str = "resnet18", **kwargs: str) -> backbones.Backbone:
    torch.manual_seed(seed)
    return backbones.build(arch, **kwargs)


@pytest.fixture(scope="module")
def published():
    """A state dict as torchvision publishes them."""
    torch.manual_seed(1)
    return torchvision.models.resnet18(num_classes=6).state_dict()


def same(module: torch.nn.Module, state: dict[str, torch.Tensor]) -> bool:
    return all(tensor.equal(state[name]) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize("wrap", [dict, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_backbone_from_torch_checkpoints(tmp_path, published, wrap, prefix):
    file = tmp_path / "resnet18.pth"
    torch.save(wrap({prefix + name: tensor for name, tensor in published.items()}), file)
    model = backbone()
    report = load_weights(model, file)
    assert same(model.net, published)
    assert report.unexpected == ("fc.bias", "fc.weight") and not report.missing and not report.mismatched
    assert len(report.matched) == len(model.state_dict())
    assert report.summary() == "resnet18.pth: 120 tensors loaded; in the file only, unused: fc.bias, fc.weight"


def test_classifier_from_safetensors_and_back_into_torchvision(tmp_path, published):
    safetensors.torch.save_file(published, tmp_path / "in.safetensors")
    model = Classifier(backbone(), 6)
    report = load_weights(model, tmp_path / "in.safetensors")
    assert not (report.missing or report.unexpected or report.mismatched)
    save_weights(model, tmp_path / "out.safetensors")
    net = torchvision.models.resnet18(num_classes=6)
    net.load_state_dict(safetensors.torch.load_file(tmp_path / "out.safetensors"), strict=True)
    assert same(net, published)


def test_head_of_another_number_of_classes_stays_and_is_reported(tmp_path, published):
    torch.save(published, tmp_path / "w.pt")
    model = Classifier(backbone(), 4)
    head = model.last_layer.weight.clone()
    report = load_weights(model, tmp_path / "w.pt")
    assert report.mismatched == (("fc.weight", (6, 512), (4, 512)), ("fc.bias", (6,), (4,)))
    assert "fc.weight [6, 512] in the file, [4, 512] in the model" in report.summary()
    assert model.last_layer.weight.equal(head) and same(model.backbone.net, published)


def test_auxiliary_heads_travel_with_the_classifier_and_not_with_the_backbone(tmp_path):
    model = Classifier(backbone(arch="googlenet"), 5)
    save_weights(model, tmp_path / "classifier.safetensors")
    save_weights(model.backbone, tmp_path / "backbone.safetensors")
    names = set(read_weights(tmp_path / "classifier.safetensors"))
    assert {"aux1.fc1.weight", "fc.weight", "inception3a.branch1.conv.weight"} <= names
    assert not [n for n in read_weights(tmp_path / "backbone.safetensors") if n.startswith(("aux", "fc"))]
    fresh = Classifier(backbone(1, "googlenet"), 5)
    assert "aux1.fc1.weight" in load_weights(fresh, tmp_path / "backbone.safetensors").missing
    assert same(fresh.backbone, model.backbone.state_dict())


def test_published_vits_have_old_names_and_may_be_of_other_image_sizes(tmp_path):
    torch.manual_seed(1)
    net = torchvision.models.VisionTransformer(384, 16, 12, 3, 192, 768, num_classes=6)
    torch.nn.init.normal_(net.heads.head.weight)
    old = {
        name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): tensor
        for name, tensor in net.state_dict().items()
    }
    assert "encoder.layers.encoder_layer_0.mlp.linear_1.weight" in old
    torch.save(old, tmp_path / "vit.pth")
    model = Classifier(backbone(arch="vit_ti_16"), 6).eval()
    report = load_weights(model, tmp_path / "vit.pth")
    assert report.changes == ("position embeddings interpolated from 24x24 to 14x14 patches",)
    assert "tensors loaded; position embeddings interpolated" in report.summary()
    assert not (report.missing or report.unexpected or report.mismatched)
    own, published = model.backbone.net.encoder.pos_embedding, net.encoder.pos_embedding
    assert own[:, 0].equal(published[:, 0])
    # The same place of the image has about the same embedding in both grids, and the corners are the corners.
    grids = [table[0, 1:].T.unflatten(1, (side, side)) for table, side in ((own, 14), (published, 24))]
    smaller = torch.nn.functional.interpolate(grids[1][None], (14, 14), mode="area")[0]
    assert torch.corrcoef(torch.stack([grids[0].flatten(), smaller.flatten()]))[0, 1] > 0.8


@torch.no_grad()
def test_position_embeddings_that_are_a_plane_stay_one(tmp_path):
    table = torch.zeros(1, 1 + 14 * 14, 2)
    table[0, 1:, 0], table[0, 1:, 1] = (
        x.flatten() + 0.5 for x in torch.meshgrid(torch.arange(14.0), torch.arange(14.0), indexing="ij")
    )
    rows, columns = resampled(table, (28, 42))[0, 1:].T.unflatten(1, (28, 42))
    inner = (slice(6, -6), slice(6, -6))
    torch.testing.assert_close(rows[inner], ((torch.arange(28) + 0.5) / 2).view(-1, 1).expand(28, 42)[inner])
    torch.testing.assert_close(columns[inner], ((torch.arange(42) + 0.5) / 3).expand(28, 42)[inner])


def test_two_tensors_of_one_name_are_not_written(tmp_path):
    model = torch.nn.Module()
    model.net, model.fc = torch.nn.Module(), torch.nn.Linear(2, 2)
    model.net.fc = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"tensors net\.fc\.weight and fc\.weight would both be called fc\.weight"):
        save_weights(model, tmp_path / "w.safetensors")
    assert not list(tmp_path.iterdir())


def test_counters_that_old_files_lack_are_not_missed(tmp_path, published):
    torch.save({n: t for n, t in published.items() if not n.endswith("num_batches_tracked")}, tmp_path / "w.pt")
    assert not load_weights(backbone(), tmp_path / "w.pt").missing


def quantized(tensor):
    return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)


def without(name):
    return lambda state: {n: t for n, t in state.items() if n != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("layer1.0.conv1.weight"), "missing: layer1.0.conv1.weight"),
        (lambda s: {**s, "extra.weight": torch.zeros(2)}, "unexpected: extra.weight"),
        (
            lambda s: {**s, "conv1.weight": torch.zeros(64, 3, 3, 3)},
            r"another shape: conv1.weight \[64, 3, 3, 3\] in the file, \[64, 3, 7, 7\] in the model",
        ),
        (lambda s: {}, "holds no state dict"),
        (lambda s: {"state_dict": {**s, "epoch": 3}}, "holds more than tensors: epoch"),
        (lambda s: [1, 2], "holds no state dict, but a list"),
        (lambda s: {**s, "bn1.bias": s["bn1.bias"] + float("nan")}, r"not finite: bn1\.bias"),
        (lambda s: {**s, "bn1.bias": s["bn1.bias"].to(torch.int8)}, r"integers .*bn1\.bias is torch\.int8"),
        (lambda s: {**s, "bn1.bias": quantized(s["bn1.bias"])}, r"integers .*bn1\.bias is torch\.qint8"),
    ],
)
def test_anything_else_is_refused_and_changes_nothing(tmp_path, published, change, message):
    torch.save(change(published), tmp_path / "w.pt")
    model = backbone()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=message) as error:
        load_weights(model, tmp_path / "w.pt")
    assert same(model, before)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


def test_another_architecture_is_refused_with_the_first_names(tmp_path, published):
    torch.save(published, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"missing: layer1.0.conv3.weight, .* and \d+ more;"):
        load_weights(backbone(arch="resnet50"), tmp_path / "w.pt")


def test_weights_of_the_usual_stem_do_not_fit_the_small_one(tmp_path, published):
    torch.save(published, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"another shape: conv1\.weight"):
        load_weights(backbone(stem="small"), tmp_path / "w.pt")


class Payload:
    """Creates a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_pickles_are_not_executed(tmp_path):
    (tmp_path / "w.pt").write_bytes(pickle.dumps({"weight": Payload(tmp_path / "executed")}, protocol=2))
    with pytest.raises(ValueError, match="is not a file of tensors only"):
        read_weights(tmp_path / "w.pt")
    assert not (tmp_path / "executed").exists()


def test_nobody_is_advised_to_unpickle(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pt")
    with pytest.raises(ValueError, match=r"no pickle, or one of more than tensors; save model\.state_dict") as error:
        read_weights(tmp_path / "whole.pt")
    assert "weights_only" not in str(error.value) and error.value.__suppress_context__


def test_a_pickle_under_the_name_of_safetensors_is_told(tmp_path):
    torch.save({"weight": torch.ones(2)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"it is a pickle, as torch\.save writes; call it \.pth"):
        read_weights(tmp_path / "w.safetensors")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_damaged_and_absent_files(tmp_path, name):
    with pytest.raises(FileNotFoundError, match="no weights file"):
        read_weights(tmp_path / name)
    (tmp_path / name).write_bytes(b"not weights")
    with pytest.raises(ValueError, match="is not a file of tensors only"):
        read_weights(tmp_path / name)


def test_bytes_depend_on_the_weights_alone(tmp_path):
    save_weights(backbone(), tmp_path / "a")
    save_weights(backbone().to(memory_format=torch.channels_last), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_shared_tensors_are_written_twice(tmp_path):
    model = torch.nn.ModuleList([torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)])
    model[1].weight = model[0].weight
    save_weights(model, tmp_path / "w.safetensors")
    tensors = read_weights(tmp_path / "w.safetensors")
    assert tensors["0.weight"].equal(tensors["1.weight"])


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "w.safetensors"
    target.write_bytes(b"old")

    def fail(*_args, **_kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        save_weights(torch.nn.Linear(2, 2), target)
    assert target.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == [target.name]
