"""Writers of formats, one module each, mirrored to the readers in stages/data/formats; `_` modules are what they share.

A writer is a module with two constants, KINDS of datasets that it is for and what it HOLDS of them, in words, and three
functions: `place` says in which folder an image goes (None: this format can't hold it),
`keeps` whether an object is written, and `write` writes all but the images. What a format loses no writer needs to
say: the export is read back and compared.
"""

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, cast

from stages.data.dataset import Description
from stages.data.index import Row
from stages.data.writers._samples import Sample
from stages.params import formats


class Writer(Protocol):
    """What a module of this package offers."""

    KINDS: tuple[str, ...]
    HOLDS: str

    def place(self, row: Row) -> str | None:
        """The folder for the image of a row of the index; None where the format has no place for it."""
        ...

    def keeps(self, thing: Row) -> bool:
        """Whether an entry of `objects` is written."""
        ...

    def write(self, folder: Path, samples: Iterable[Sample], description: Description) -> None:
        """Write the annotations and what describes the whole; the images come after, to the paths of the samples."""
        ...


def writer_of(fmt: str) -> Writer:
    """The writer of a format; ValueError with those that exist when there is none."""
    if fmt not in formats.written_by_export():
        raise ValueError(f"format {fmt!r} can't be written: use one of {', '.join(formats.written_by_export())}")
    module: Any = importlib.import_module(f"{__name__}.{fmt.replace('-', '_')}")
    return cast(Writer, module)


def writer_for(fmt: str, kind: str) -> Writer:
    """The writer of a format for datasets of a kind; ValueError with the formats that fit when it is not for those."""
    writer = writer_of(fmt)
    if kind not in writer.KINDS:
        fitting = [other for other in formats.written_by_export() if kind in writer_of(other).KINDS]
        raise ValueError(f"{fmt} holds {writer.HOLDS}, the dataset is for {kind}: use {' or '.join(fitting)}")
    return writer
