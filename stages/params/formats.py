"""The formats that datasets are read from and written in: the modules on disk, so that nothing is imported."""

from pathlib import Path

DATA = Path(__file__).parents[1] / "data"


def read_at_ingest() -> list[str]:
    """What `ingest --format` takes ("tiny-imagenet"): the modules of stages/data/formats."""
    return _modules("formats")


def written_by_export() -> list[str]:
    """What `export --format` takes: the modules of stages/data/writers."""
    return _modules("writers")


def _modules(folder: str) -> list[str]:
    return sorted(file.stem.replace("_", "-") for file in (DATA / folder).glob("[a-z]*.py"))
