"""Stage `verify FOLDER HASH`: say which images of a dataset's folder differ from the version with this hash.

`python -m stages.verify data/bccd 0123….dir`; exit code 1 and a line for each difference.
"""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

from stages.data import history, index
from stages.data.dataset import Dataset
from stages.data.versions import hash_file
from stages.tracking.process import die_with_parent


def verify(folder: Path, dir_hash: str) -> Iterator[str]:
    """What differs, a line each: images by name where a shard differs, else files."""
    listed = history.listing(dir_hash)
    for path, md5 in sorted(listed.items()):
        file = folder / path
        if not file.is_file():
            yield f"{path} is not there"
        elif hash_file(file) != md5:
            yield from _differences(folder, path)
    for file in sorted(f for f in folder.rglob("*") if f.is_file()):
        if file.relative_to(folder).as_posix() not in listed:
            yield f"{file.relative_to(folder).as_posix()} is not in the version"


def _differences(folder: Path, path: str) -> Iterator[str]:
    """The images of a shard whose bytes are not what the index says; the file's own name when all are."""
    told = False
    if path.startswith(history.SHARDS):
        shard = Path(path).stem
        rows = index.read(folder, ["shard", "offset", "size", "sha256", "source", "split"]).to_pylist()
        dataset = Dataset(folder)
        for row in rows:
            if row["shard"] != shard:
                continue
            try:
                data = dataset.read(shard, row["offset"], row["size"])
            except OSError as error:
                data, told = b"", True
                yield f"image {row['source']} ({row['split']}): {error}"
                continue
            if hashlib.sha256(data).hexdigest() != row["sha256"]:
                told = True
                yield f"image {row['source']} ({row['split']}) has other bytes than sha256 {row['sha256'][:16]}…"
    if not told:
        yield f"{path} has other bytes"


if __name__ == "__main__":
    die_with_parent()
    try:
        found = list(verify(Path(sys.argv[1]), sys.argv[2]))
    except OSError as error:
        found = [str(error)]
    for line in found:
        print(line, file=sys.stderr)
    sys.exit(1 if found else 0)
