"""CIFAR-10 and CIFAR-100 as distributed: the Python version and the binary one (cs.toronto.edu/~kriz/cifar.html).

CIFAR-100's label is the fine one; its superclass stands in the class's name for people, "apple (fruit and vegetables)".
"""

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stages.data.formats._cifar_batches import Batch, Names, read_binary, read_names, read_python
from stages.data.formats._files import files, folders, refuse_images
from stages.data.formats._pixels import Pixels
from stages.data.records import Record, Rejected, Source

_SIDE_PX = 32


@dataclass(frozen=True)
class _Layout:
    """One of the four that are distributed."""

    batches: tuple[str, ...]
    names: str  # the file with the names of the classes
    is_binary: bool = False


_TEN = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")
_LAYOUTS = (
    _Layout(_TEN, "batches.meta"),
    _Layout(("train", "test"), "meta"),
    _Layout(tuple(f"{name}.bin" for name in _TEN), "batches.meta.txt", is_binary=True),
    _Layout(("train.bin", "test.bin"), "fine_label_names.txt", is_binary=True),
)


def read(root: Path, images: Path | None = None) -> Source:
    """The batches in `root` or in a folder of it; those that are missing are simply not there.

    ValueError when there are none, when both CIFARs are there, or when the names of the classes are not.
    """
    refuse_images("cifar", images)
    folder, layout, notes = _find(root)
    base = root / folder
    names = read_names(base, layout.names)
    paths = sorted(name for name in layout.batches if (base / name).is_file())
    outcomes = [_open(base, path, names, layout.is_binary) for path in paths]
    batches = [item for item in outcomes if isinstance(item, Batch)]
    return Source(
        task="classification",
        classes=_titles(names, batches),
        records=partial(_records, folder, outcomes, names),
        notes=tuple(notes),
    )


def _find(root: Path) -> tuple[str, _Layout, list[str]]:
    """The folder and what lies there; the Python version before the binary one of the same images."""
    found = []
    for folder in ("", *folders(root)):
        there = {posixpath.basename(path) for path in files(root, folder)}
        found += [(folder, item) for item in _LAYOUTS if item.names in there and there.intersection(item.batches)]
    if not found:
        looked_for = "; ".join(f"{item.names} with {item.batches[0]} ... {item.batches[-1]}" for item in _LAYOUTS)
        raise ValueError(f"no CIFAR data in {root}: looked for {looked_for}, here or in a folder of it")
    (folder, layout), *others = found
    places = ", ".join(posixpath.join(place, item.names) for place, item in found)
    if any(len(item.batches) != len(layout.batches) or item.is_binary == layout.is_binary for _, item in others):
        raise ValueError(f"{root} holds more than one CIFAR, {places}: name the folder of one of them")
    return folder, layout, [f"{place or item.names} holds the same images: left out" for place, item in others]


def _open(base: Path, path: str, names: Names, is_binary: bool) -> Batch | Rejected:
    try:
        return read_binary(base, path, names) if is_binary else read_python(base, path, names)
    except (ValueError, OSError) as error:
        return Rejected(path, str(error).removeprefix(f"{base}/"))


def _titles(names: Names, batches: Iterable[Batch]) -> dict[str, str]:
    """Fine label -> name with its superclass; the first batch that has the class says which that is."""
    coarse: dict[int, int] = {}
    for batch in batches:
        for fine, number in zip(batch.labels, batch.coarse, strict=False):
            coarse.setdefault(fine, number)
    above = {fine: names.coarse[number] for fine, number in coarse.items() if number < len(names.coarse)}
    return {
        name: f"{name} ({above[number]})".replace("_", " ") if number in above else name
        for number, name in enumerate(names.labels)
    }


def _records(folder: str, outcomes: list[Batch | Rejected], names: Names) -> Iterator[Record | Rejected]:
    for item in outcomes:
        if isinstance(item, Rejected):
            yield Rejected(posixpath.join(folder, item.path), item.reason)
        else:
            yield from _images(folder, item, names)


def _images(folder: str, batch: Batch, names: Names) -> Iterator[Record | Rejected]:
    split = "test" if batch.name.startswith("test") else "train"
    for number, label in enumerate(batch.labels):
        # Without the folder: both versions of CIFAR give an image the same place, and so the same sample.
        path = f"{batch.name}/{number:05}.png"
        if label < len(names.labels):
            yield Record(path, Pixels(batch.pixels(number), _SIDE_PX, _SIDE_PX, 3), split, (names.labels[label],))
        else:
            yield Rejected(path, f"label {label} has no name: {names.path} names {len(names.labels)} classes")
    if batch.left:
        yield Rejected(posixpath.join(folder, batch.path), f"ends within an image, {batch.left} bytes after the last")
