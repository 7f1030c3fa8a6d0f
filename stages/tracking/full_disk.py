"""A full disk: told apart from other errors by the words of those that meet it, and what to do then."""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

SAID = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT), "database or disk is full", "Out of diskspace")
PERHAPS = "disk I/O error"  # SQLite's word for many things
PLACES = (".", ".git", ".dvc", ".dvc/cache", ".visionline", "data", "models", "reports")  # may lie on several disks
LITTLE_BYTES = 2**20
TO_DO = "then run the same command again"


def advised(line: str) -> str:
    """A line that tells of an error; where a disk is full, it also says which one and what to do."""
    if TO_DO in line:
        return line
    full = list(_full())
    if not any(words in line for words in SAID) and not (full and PERHAPS in line):
        return line
    where = f" on the disk of {Path(full[0]).resolve()}" if full else ""
    return f"{line}; free some space{where}, {TO_DO}"


def _full() -> Iterator[str]:
    for place in PLACES:
        if Path(place).exists() and shutil.disk_usage(place).free < LITTLE_BYTES:
            yield place
