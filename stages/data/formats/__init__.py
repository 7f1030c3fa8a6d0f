"""Readers of source formats, one module each; modules with a leading underscore are what they share."""

import importlib
from pathlib import Path

from stages.data.records import Source
from stages.params import formats


def names() -> list[str]:
    """The formats that exist, as the command line spells them ("tiny-imagenet")."""
    return formats.read_at_ingest()


def open_source(fmt: str, root: Path, images: Path | None = None) -> Source:
    """A source folder in format `fmt`; `images`: another folder where its images lie.

    ValueError or FileNotFoundError, in one line, when the format is unknown or the folder is not of this format.
    """
    if fmt not in names():
        raise ValueError(f"format {fmt!r} is unknown: use one of {', '.join(names())}")
    for folder in (root, images):
        if folder is not None and not folder.exists():
            raise FileNotFoundError(f"source folder {folder} does not exist")
        if folder is not None and not folder.is_dir():
            raise ValueError(f"source {folder} is a file: give the folder that holds the {fmt} data")
    module = importlib.import_module(f"{__name__}.{fmt.replace('-', '_')}")
    source: Source = module.read(root, images)
    return source
