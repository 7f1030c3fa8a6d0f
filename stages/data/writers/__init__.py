"""Writers of formats, one module each, mirrored to the readers in stages/data/formats; `_` modules are what they share.

A writer is a module with three functions: `place` says in which folder an image goes (None: this format can't hold it),
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

    def place(self, row: Row) -> str | None:
        """The folder for the image of a row of the index; None where the format has no place for it."""
        ...

    def keeps(self, thing: Row) -> bool:
        """Whether an entry of `objects` is written."""
        ...

    def write(self, folder: Path, samples: Iterable[Sample], description: Description) -> None:
        """Write the annotations and what describes the whole; the images come after, to the paths of the samples.

        ValueError when this format is not for such a dataset.
        """
        ...


def writer_of(fmt: str) -> Writer:
    """The writer of a format; ValueError with those that exist when there is none."""
    if fmt not in formats.written_by_export():
        raise ValueError(f"format {fmt!r} can't be written: use one of {', '.join(formats.written_by_export())}")
    module: Any = importlib.import_module(f"{__name__}.{fmt.replace('-', '_')}")
    return cast(Writer, module)
