"""Takes back what a command changed in the working tree when it fails halfway, as on a full disk."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def undone_on_failure(folder: Path, files: Sequence[Path]) -> Iterator[None]:
    """Leave a dataset's folder and some small files as they were when the block fails; that needs no space.

    The folder's files must be replaced and never written to. Where hard links can't be made the folder stays as the
    block left it, and its pointer tells that it differs.
    """
    place = folder.resolve()  # a big dataset may lie elsewhere, behind a link
    kept = place.with_name(f".{place.name}.before")
    contents = {file: file.read_bytes() if file.is_file() else None for file in files}
    is_kept = _linked(place, kept)
    try:
        yield
    except BaseException:
        if is_kept:
            shutil.rmtree(place, ignore_errors=True)
            if kept.is_dir():
                kept.rename(place)
        for file, content in contents.items():
            _put_back(file, content)
        raise
    finally:
        shutil.rmtree(kept, ignore_errors=True)


def _linked(folder: Path, kept: Path) -> bool:
    """Keep the files of a folder under other names."""
    shutil.rmtree(kept, ignore_errors=True)  # of a process that was killed
    try:
        if folder.is_dir():
            shutil.copytree(folder, kept, copy_function=os.link)
    except OSError:
        return False
    return True


def _put_back(file: Path, content: bytes | None) -> None:
    if content is None:
        file.unlink(missing_ok=True)
    elif not file.is_file() or file.read_bytes() != content:
        file.write_bytes(content)  # in place: what is cut off makes the room
