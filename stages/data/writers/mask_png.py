"""Index PNGs: images/SPLIT, masks/SPLIT with a grey PNG an image, classes.txt.

The value of a pixel is the place of its class, counted from 0, and VOID where nothing is labelled. From VOID on a class
has the number after its place; then the PNGs have 16 bits and classes.txt numbers its lines.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from stages.data import masks
from stages.data.dataset import Description
from stages.data.formats._masks import read_names
from stages.data.index import Row
from stages.data.records import VOID
from stages.data.writers._provenance import write_licence
from stages.data.writers._samples import Sample

KINDS, HOLDS = ("segmentation",), "a class for every pixel"

Values = NDArray[np.uint8] | NDArray[np.uint16]


def place(row: Row) -> str | None:
    """A folder a split, below images/; None for an image without a mask."""
    return f"images/{row['split']}" if row["mask_offset"] is not None else None


def keeps(thing: Row) -> bool:
    """No object: this format has none."""
    return False


def write(folder: Path, samples: Iterable[Sample], description: Description) -> None:
    """classes.txt, and the mask of each image under its name."""
    classes = list(description.classes)
    numbers = [place + (place >= VOID) for place in range(len(classes))]
    _write_names(folder / "classes.txt", dict(zip(numbers, classes, strict=True)))
    values: Values = np.array([*numbers, VOID], np.uint16)
    values = values.astype(np.uint8) if len(classes) <= VOID else values
    for sample in samples:
        path = folder / PurePosixPath("masks", *PurePosixPath(sample.path).parts[1:]).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_mask(sample, classes, values))
    write_licence(folder, description)


def _mask(sample: Sample, classes: Sequence[str], values: Values) -> bytes:
    """A PNG of the values of the classes, the last of which is for no class."""
    assert sample.mask is not None  # other images have no place
    return masks.encoded(values[masks.placed(sample.mask, dict(enumerate(sample.row["mask_labels"])), classes)])


def _write_names(file: Path, names: dict[int, str]) -> None:
    """A name a line; behind its number where the place does not tell that, or a name looks like a number and a name.

    ValueError for a name that is no line of a text file.
    """
    for name in names.values():
        if [name] != name.strip().splitlines():
            raise ValueError(f"class {name!r} is no line of a classes.txt: mask-png can't hold it")
    file.write_text("".join(f"{name}\n" for name in names.values()), encoding="utf8")
    if not _says(file, names):
        file.write_text("".join(f"{number}: {name}\n" for number, name in names.items()), encoding="utf8")


def _says(file: Path, names: dict[int, str]) -> bool:
    try:
        return read_names(file) == names
    except ValueError:  # "1 euro" and "1 dollar" look like two names of the same number
        return False
