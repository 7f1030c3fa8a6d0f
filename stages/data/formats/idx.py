"""IDX: the files of MNIST and its family (Fashion-MNIST, KMNIST, EMNIST), gzipped or plain.

EMNIST's files keep rows and columns swapped (nist.gov/itl/products-and-services/emnist-dataset): they are swapped back.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from stages.data.formats._files import files, refuse_images
from stages.data.formats._idx_files import opened, read_labels, read_sizes
from stages.data.formats._pixels import Pixels
from stages.data.records import Record, Rejected, Source

_NAMED = re.compile(r"(?P<set>.*?)[-_.]?(?P<part>images|labels)[-.]idx\d-ubyte(\.gz)?")
_SPLITS = {"train": "train", "t10k": "test", "test": "test", "val": "val"}
_MAX_SIDE = 1 << 14  # pixels; a hostile header asks for more


@dataclass(frozen=True)
class _Set:
    """An images file with the labels of its images."""

    name: str  # train, t10k, emnist-letters-train
    path: str  # of the images
    labels: bytes
    height: int  # as stored
    width: int

    @property
    def split(self) -> str | None:
        """What the last part of the name says."""
        return _SPLITS.get(re.split(r"[-_.]", self.name.lower())[-1])

    @property
    def is_swapped(self) -> bool:
        """Whether rows are columns in this file."""
        return "emnist" in self.name.lower()


def read(root: Path, images: Path | None = None) -> Source:
    """Every pair of an images and a labels file in `root`; labels are numbers, or what EMNIST's mapping file says.

    ValueError when there is no pair, when a file is no IDX file, or when images and labels differ in number.
    """
    refuse_images("idx", images)
    parts: dict[str, dict[str, str]] = {"images": {}, "labels": {}}
    for path in files(root):
        if match := _NAMED.fullmatch(path):
            parts[match["part"]].setdefault(match["set"] or "all", path)
    paired = sorted({*parts["images"]} & {*parts["labels"]})
    if not paired:
        found = ", ".join(sorted([*parts["images"].values(), *parts["labels"].values()])) or "none of them"
        looked_for = "train|t10k-images-idx3-ubyte with train|t10k-labels-idx1-ubyte, .gz or not"
        raise ValueError(f"no IDX data in {root}: looked for {looked_for}; found {found}")
    sets = [_open(root, name, parts["images"][name], parts["labels"][name]) for name in paired]
    characters = _read_mapping(root)
    labels = {n: characters.get(n, (str(n),)) for n in sorted({n for item in sets for n in item.labels})}
    return Source(
        task="classification",
        classes={names[0]: ", ".join(names) for names in labels.values()},
        records=partial(_records, root, sets, _unpaired(parts), {n: names[0] for n, names in labels.items()}),
        notes=tuple(f"{item.path}: rows and columns are swapped back" for item in sets if item.is_swapped),
    )


def _unpaired(parts: dict[str, dict[str, str]]) -> list[Rejected]:
    images, labels = parts["images"], parts["labels"]
    without = [Rejected(images[name], "images without a labels file") for name in images.keys() - labels.keys()]
    return without + [Rejected(labels[name], "labels without an images file") for name in labels.keys() - images.keys()]


def _open(root: Path, name: str, path: str, labels_path: str) -> _Set:
    labels = read_labels(root / labels_path)
    with opened(root / path) as content:
        num, height, width = read_sizes(content, root / path, 3)
    if not (0 < height <= _MAX_SIDE and 0 < width <= _MAX_SIDE):
        raise ValueError(f"{root / path}: images of {width}x{height} pixels, must be 1 to {_MAX_SIDE} a side")
    if num != len(labels):
        raise ValueError(f"{root}: {path} has {num} images, {labels_path} has {len(labels)} labels: must be as many")
    return _Set(name, path, labels, height, width)


def _read_mapping(root: Path) -> dict[int, tuple[str, ...]]:
    """Label -> its characters, from the lines "10 65" or "1 65 97" of an EMNIST mapping file."""
    mappings = [root / path for path in files(root) if path.lower().endswith("mapping.txt")]
    if len(mappings) > 1:
        names = ", ".join(file.name for file in mappings)
        raise ValueError(f"{root} has several mapping files, {names}: keep one EMNIST split a folder")
    rows = [line.split() for file in mappings for line in file.read_text("ascii", "replace").splitlines()]
    if not all(cell.isdecimal() and int(cell) < 0x110000 for row in rows for cell in row):
        raise ValueError(f"{mappings[0]}: a line must be a label and character codes, as in '1 65 97'")
    return {int(row[0]): tuple(chr(int(code)) for code in row[1:]) for row in rows if len(row) > 1}


def _records(
    root: Path, sets: list[_Set], unpaired: list[Rejected], labels: dict[int, str]
) -> Iterator[Record | Rejected]:
    found: list[Rejected | _Set] = [*unpaired, *sets]
    for item in sorted(found, key=lambda item: item.path if isinstance(item, Rejected) else f"{item.name}/"):
        if isinstance(item, Rejected):
            yield item
        else:
            yield from _images(root, item, labels)


def _images(root: Path, item: _Set, labels: dict[int, str]) -> Iterator[Record | Rejected]:
    """Images are read one after the other: a compressed file allows no other way."""
    size = item.height * item.width
    number = 0
    try:
        with opened(root / item.path) as content:
            read_sizes(content, root / item.path, 3)
            for number, label in enumerate(item.labels):
                data = content.read(size)
                if len(data) < size:
                    yield Rejected(item.path, f"ends within image {number} of {len(item.labels)}")
                    return
                yield Record(f"{item.name}/{number:06}.png", _pixels(item, data), item.split, (labels[label],))
            if content.read(1):
                yield Rejected(item.path, f"goes on after its {len(item.labels)} images")
    except ValueError as error:
        yield Rejected(item.path, f"{error}, after image {number}")


def _pixels(item: _Set, data: bytes) -> Pixels:
    if not item.is_swapped:
        return Pixels(data, item.width, item.height)
    turned = np.frombuffer(data, np.uint8).reshape(item.height, item.width).T
    return Pixels(turned.tobytes(), item.height, item.width)
