"""Content hashes by DVC's rule: what `dvc add` writes into a pointer and dvc.lock, without starting DVC."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def hash_path(path: Path) -> str:
    """DVC's hash of a file, or of a folder (it ends in `.dir`); FileNotFoundError when there is neither.

    A folder's is the md5 of the JSON list of its files' md5 and relative path, sorted by path. As DVC does in outs,
    every file counts (empty folders and .dvcignore don't), links to files are read and links to folders are not.
    """
    if not path.is_dir():
        return hash_file(path)
    files = sorted((file.relative_to(path).as_posix(), file) for file in _files(path))
    with ThreadPoolExecutor() as pool:  # md5 releases the interpreter lock
        hashes = pool.map(hash_file, [file for _, file in files])
        listing = [{"md5": md5, "relpath": relpath} for md5, (relpath, _) in zip(hashes, files, strict=True)]
    return _md5(json.dumps(listing).encode()) + ".dir"


def hash_file(path: Path) -> str:
    """md5 of a file's bytes, 32 hex, read in pieces; FileNotFoundError when it is not there."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _files(folder: Path) -> list[Path]:
    return [Path(root) / name for root, _, names in os.walk(folder) for name in names]


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
