"""ImageFolder: SPLIT/CLASS/IMAGE (torchvision.datasets.ImageFolder on each split)."""

from collections.abc import Iterable
from pathlib import Path

from stages.data.dataset import Description
from stages.data.formats._files import is_listed
from stages.data.index import Row
from stages.data.writers._provenance import write_licence
from stages.data.writers._samples import Sample, safe_name

KINDS, HOLDS = ("classification",), "labels of whole images"


def place(row: Row) -> str | None:
    """The folder of the first label; None without a label, or where a folder can't have its name."""
    label = next(iter(row["labels"]), None)
    return f"{row['split']}/{label}" if label and label == safe_name(label) and is_listed(label) else None


def keeps(thing: Row) -> bool:
    """No object: this format has none."""
    return False


def write(folder: Path, samples: Iterable[Sample], description: Description) -> None:
    """Only the licence: the folders of the images say all the rest."""
    write_licence(folder, description)
