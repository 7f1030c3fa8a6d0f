"""The files of CIFAR: batches of images, pickled or binary, and the names of the classes."""

import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.data.formats._files import printable
from stages.data.formats._pickled import read_pickled

_NUM_VALUES = 3 * 32 * 32  # of an image: 1024 red, 1024 green, 1024 blue, each in rows


@dataclass(frozen=True)
class Names:
    """Names of the classes, in the order of their numbers."""

    path: str
    labels: tuple[str, ...]
    coarse: tuple[str, ...] = ()  # CIFAR-100's superclasses


@dataclass(frozen=True, eq=False)
class Batch:
    """One file of images."""

    path: str
    labels: tuple[int, ...]
    values: NDArray[np.uint8]  # [N, 3072], planes of red, green, blue
    coarse: tuple[int, ...] = ()
    left: int = 0  # bytes after the last whole image

    @property
    def name(self) -> str:
        """The same in both versions."""
        return posixpath.splitext(self.path)[0]

    def pixels(self, number: int) -> bytes:
        """RGB of one image, channels side by side."""
        return self.values[number].reshape(3, -1).T.tobytes()


def read_names(base: Path, path: str) -> Names:
    """The names in batches.meta, meta, or the binary version's lists; ValueError when there is no sound list."""
    if path.endswith(".txt"):
        coarse = base / "coarse_label_names.txt"
        fine = _lines(base / path)
        return _checked(base, Names(path, fine, _lines(coarse) if coarse.is_file() else ()))
    said = read_pickled(base / path)
    if not isinstance(said, dict):
        raise ValueError(f"{base / path} holds a {type(said).__name__}, must be a dict")
    key = "fine_label_names" if path == "meta" else "label_names"
    return _checked(base, Names(path, _texts(said.get(key)), _texts(said.get("coarse_label_names"))))


def _checked(base: Path, names: Names) -> Names:
    if not names.labels or len({*names.labels}) < len(names.labels):
        raise ValueError(f"{base / names.path} must name the classes, each once; has {len(names.labels)} names")
    return names


def _lines(file: Path) -> tuple[str, ...]:
    return tuple(line.strip() for line in file.read_text("utf-8", "replace").splitlines() if line.strip())


def _texts(values: Any) -> tuple[str, ...]:
    listed = values if isinstance(values, list) else []
    return tuple(printable(v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v)) for v in listed)


def read_python(base: Path, path: str, names: Names) -> Batch:
    """A pickled batch; ValueError when it is not one, or when images and labels differ in number."""
    said = read_pickled(base / path)
    values = said.get("data") if isinstance(said, dict) else None
    if not isinstance(values, np.ndarray) or values.shape[1:] != (_NUM_VALUES,):
        shape = f"of shape {values.shape}" if isinstance(values, np.ndarray) else f"a {type(values).__name__}"
        raise ValueError(f"{base / path}: its data must be bytes of shape (N, {_NUM_VALUES}), are {shape}")
    labels = _numbers(base / path, said, "fine_labels" if names.coarse else "labels")
    if len(labels) != len(values):
        raise ValueError(f"{base / path} has {len(values)} images and {len(labels)} labels: must be as many")
    coarse = _numbers(base / path, said, "coarse_labels") if "coarse_labels" in said else ()
    return Batch(path, labels, values, coarse)


def _numbers(file: Path, said: dict[Any, Any], key: str) -> tuple[int, ...]:
    numbers = said.get(key)
    if not isinstance(numbers, list) or not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError(f"{file}: its {key} must be a list of numbers from 0")
    return tuple(numbers)


def read_binary(base: Path, path: str, names: Names) -> Batch:
    """A binary batch: before each image a byte with its label, in CIFAR-100 one with the superclass before that."""
    num_labels = 2 if path in ("train.bin", "test.bin") else 1
    data = np.fromfile(base / path, np.uint8)
    size = num_labels + _NUM_VALUES
    rows = data[: len(data) // size * size].reshape(-1, size)
    coarse = tuple(rows[:, 0].tolist()) if num_labels == 2 else ()
    labels = tuple(rows[:, num_labels - 1].tolist())
    return Batch(path, labels, rows[:, num_labels:], coarse, left=len(data) % size)
