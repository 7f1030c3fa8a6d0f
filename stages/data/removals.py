"""Images that were withdrawn from a dataset: taken out of its shards, noted beside its pointer, kept out of ingest."""

import fcntl
import json
import os
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from stages.data import index
from stages.data.shards import ShardWriter, remove_if_empty, remove_leftovers

COLUMNS = ("key", "sha256", "split", "source", "shard")


def journal_of(folder: Path) -> Path:
    """Where the removals of a dataset are noted, an entry a line: in git beside the pointer, to travel with it."""
    return folder.with_name(f"{folder.name}.removals.jsonl")


def withdrawn(folder: Path) -> dict[str, str]:
    """sha256 -> why the image with these bytes must not come back."""
    file = journal_of(folder)
    lines = file.read_text(encoding="utf8").splitlines() if file.is_file() else []
    return {
        image["sha256"]: f"removed on {entry['when'][:10]}: {entry['reason']}"
        for entry in map(json.loads, lines)
        for image in entry["images"]
    }


def samples(folder: Path, hashes: Collection[str]) -> list[index.Row]:
    """Samples of a dataset as it lies here whose image has one of these sha256."""
    table = index.read(folder, COLUMNS)
    return table.filter(pc.is_in(table["sha256"], pa.array(sorted(hashes), pa.string()))).to_pylist()


def hashes_of(folder: Path, source: str) -> set[str]:
    """sha256 of the images that came from a path of the source."""
    table = index.read(folder, ["sha256", "source"])
    return set(table.filter(pc.equal(table["source"], source))["sha256"].to_pylist())


def take_out(folder: Path, rows: Collection[index.Row]) -> int:
    """Rewrite the shards that hold samples without them; the number of those shards.

    ValueError, and the dataset as it was, when nothing would be left. BlockingIOError while an ingest writes to it.
    """
    keys: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        keys[row["shard"]].add(row["key"])
    with writing(folder):
        remove_leftovers(folder)
        if index.read(folder, ["key"]).num_rows == len(rows):
            raise ValueError(f"{folder} would hold no image any more: delete the dataset instead")
        writer = ShardWriter(folder, batch=0)  # nothing is added
        try:
            for shard, gone in sorted(keys.items()):
                writer.remove(shard, gone)
            return writer.commit()[1]
        except BaseException:
            writer.discard()
            raise


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Make the folder and hold it for writing; the lock is the folder itself, so that nothing is left of it."""
    folder.mkdir(parents=True, exist_ok=True)
    number = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(f"another ingest is writing to {folder}: wait until it has ended") from None
        try:
            yield
        finally:
            remove_if_empty(folder)
    finally:
        os.close(number)
