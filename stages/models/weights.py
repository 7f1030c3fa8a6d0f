"""Weights to and from files, under torchvision's names, and never in silent part."""

import re
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from stages.models import timm_names
from stages.models.backbone import Backbone
from stages.params.files import write_atomically

# Where our wrappers keep torchvision's modules.
_WRAPPERS = re.compile(r"^(?:backbone\.net|net|heads)\.")
# What torchvision calls the classification heads of its networks.
_HEADS = ("fc.", "classifier.", "heads.", "head.", "AuxLogits.", "aux1.", "aux2.")
_SHOWN = 4

Shape = tuple[int, ...]


@dataclass(frozen=True)
class WeightsReport:
    """What a file of weights and a model had in common, by torchvision's names."""

    file: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]  # in the model only
    unexpected: tuple[str, ...]  # in the file only
    mismatched: tuple[tuple[str, Shape, Shape], ...]  # name, shape in the file, shape in the model
    changes: tuple[str, ...] = ()  # what was done to the file's tensors so that they fit, in words

    def __str__(self) -> str:
        return self.summary()

    def summary(self) -> str:
        """One line for a person."""
        parts = [f"{self.file}: {len(self.matched)} tensors loaded", *self.changes]
        for title, names in (
            ("left as initialised, not in the file", self.missing),
            ("left as initialised, another shape in the file", tuple(map(_difference, self.mismatched))),
            ("in the file only, unused", self.unexpected),
        ):
            parts += [f"{title}: {_first(names)}"] if names else []
        return "; ".join(parts)


def load_weights(model: nn.Module, file: Path) -> WeightsReport:
    """Copy the tensors of a safetensors file, or of a state dict saved by torch.save, into the model.

    Names may be torchvision's or timm's. All must match in name and shape, except that heads of a `Classifier` may be
    missing or of another shape (they stay as they are), and that a file may hold classification heads nobody asked
    for. The report names both. Raises ValueError, with the first differences, for anything else, and then changes
    nothing.
    """
    state, keys = model.state_dict(), _keys(model)
    found, changes = _adapted(model, file)
    shared = [name for name in keys if name in found]
    report = WeightsReport(
        file=file.name,
        matched=tuple(name for name in shared if found[name].shape == state[keys[name]].shape),
        # Files older than torch 0.4.1 lack this counter, which only matters without momentum.
        missing=tuple(name for name in keys if name not in found and not name.endswith("num_batches_tracked")),
        unexpected=tuple(name for name in found if name not in keys),
        mismatched=tuple(
            (name, tuple(found[name].shape), tuple(state[keys[name]].shape))
            for name in shared
            if found[name].shape != state[keys[name]].shape
        ),
        changes=changes,
    )
    _refuse_partial(report, heads={name for name, key in keys.items() if key.startswith("heads.")})
    _refuse_codes(file, {name: found[name] for name in report.matched if state[keys[name]].is_floating_point()})
    model.load_state_dict({keys[name]: found[name] for name in report.matched}, strict=False)
    return report


def _adapted(model: nn.Module, file: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The file's tensors as the model's backbone names and shapes them, and what that changed."""
    found = read_weights(file)
    backbone = model if isinstance(model, Backbone) else getattr(model, "backbone", None)
    if not isinstance(backbone, Backbone):
        return found, ()
    timm_names.check_config(backbone.arch, backbone.stem, file)
    return backbone.adapted(found)


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a weights file by name, sorted; nothing in the file is executed."""
    if not file.is_file():
        raise FileNotFoundError(f"no weights file {file}; give a .safetensors or a torch.save'd state dict")
    try:
        if file.suffix == ".safetensors":
            content = safetensors.torch.load_file(file)
        else:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{file} is not a file of tensors only ({_reason(file, error)})") from None
    return _unwrapped(content, file)


def _reason(file: Path, error: Exception) -> str:
    """Why a file can't be read, in words that never advise to unpickle it."""
    with file.open("rb") as content:
        start = content.read(2)
    if file.suffix == ".safetensors" and start in (b"PK", *(bytes([0x80, protocol]) for protocol in range(2, 6))):
        return "it is a pickle, as torch.save writes; call it .pth"
    if isinstance(error, UnpicklingError):
        return "it is no pickle, or one of more than tensors; save model.state_dict(), or safetensors"
    return str(error).partition("\n")[0].partition(". ")[0] + "; is it whole?"


def save_weights(module: nn.Module, path: Path) -> None:
    """Write the module's tensors as safetensors: the same weights give the same bytes, and never half a file."""
    tensors: dict[str, Tensor] = {}
    storages: set[int] = set()
    state = module.state_dict()
    for name, key in sorted(_keys(module).items(), key=lambda item: item[1]):
        plain = state[key].detach().cpu().contiguous()
        pointer = plain.untyped_storage().data_ptr()
        # The format has no notion of tensors that share memory.
        tensors[name] = plain.clone() if pointer in storages else plain
        storages.add(pointer)
    write_atomically(path, safetensors.torch.save(tensors, metadata={"format": "pt"}))


def _keys(module: nn.Module) -> dict[str, str]:
    """Public name -> key in the state dict; ValueError where two keys would share a name."""
    keys: dict[str, str] = {}
    for key in module.state_dict():
        name = _WRAPPERS.sub("", key)
        if name in keys:
            raise ValueError(f"tensors {keys[name]} and {key} would both be called {name} in a file; rename a module")
        keys[name] = key
    return keys


def _unwrapped(content: object, file: Path) -> dict[str, Tensor]:
    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{file} holds no state dict, but a {type(content).__name__}; save model.state_dict()")
    other = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if other:
        raise ValueError(f"{file} holds more than tensors: {_first(other)}; save model.state_dict() alone")
    not_finite = [str(n) for n, value in content.items() if value.is_floating_point() and not value.isfinite().all()]
    if not_finite:
        raise ValueError(f"{file} holds values that are not finite: {_first(not_finite)}; its training failed")
    if all(name.startswith("module.") for name in content):
        content = {name.removeprefix("module."): tensor for name, tensor in content.items()}
    return dict(sorted(content.items()))


def _refuse_partial(report: WeightsReport, heads: set[str]) -> None:
    missing = [name for name in report.missing if name not in heads]
    mismatched = [_difference(row) for row in report.mismatched if row[0] not in heads]
    unexpected = [name for name in report.unexpected if not name.startswith(_HEADS)]
    problems = (("missing", missing), ("another shape", mismatched), ("unexpected", unexpected))
    faults = [f"{title}: {_first(names)}" for title, names in problems if names]
    if faults:
        raise ValueError(f"{report.file} does not fit the model; {'; '.join(faults)}; is it another architecture?")


def _refuse_codes(file: Path, weights: dict[str, Tensor]) -> None:
    """Integers where weights must be are those of a quantized model, and mean nothing without their scales."""
    codes = [f"{name} is {tensor.dtype}" for name, tensor in weights.items() if not tensor.is_floating_point()]
    if codes:
        raise ValueError(f"{file.name} holds integers for weights: {_first(codes)}; give a model that is not quantized")


def _difference(row: tuple[str, Shape, Shape]) -> str:
    name, in_file, in_model = row
    return f"{name} {list(in_file)} in the file, {list(in_model)} in the model"


def _first(names: list[str] | tuple[str, ...]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
