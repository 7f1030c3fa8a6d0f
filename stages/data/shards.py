"""Writes shards: immutable tar files of images, each with its part of the index.

Nothing is changed in place, since a file may be a hard link into DVC's cache: each is staged under a temporary name
beside its final one, and renamed at the end.
"""

import hashlib
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet

from stages.data import index
from stages.data.dataset import Dataset
from stages.data.images import SUFFIXES
from stages.params.files import naming, write_atomically

MAX_BYTES = 128 * 2**20
MAX_SAMPLES = 10_000
TEMPORARY = ".tmp"
BLOCK = 512  # of a tar file


@dataclass(frozen=True)
class Sample:
    """An image's bytes and its row of the index, which has no place in a shard yet."""

    row: index.Row
    data: bytes
    mask: bytes | None = None  # the content of KEY.mask.png

    @cached_property
    def annotation(self) -> bytes:
        """The content of KEY.json."""
        names = {} if self.mask is None else {"mask_labels": self.row["mask_labels"]}
        return index.canonical({"labels": self.row["labels"], "objects": self.row["objects"], **names})

    @property
    def num_bytes(self) -> int:
        """What it takes of a tar file, at most."""
        members = [self.data, self.annotation, *([] if self.mask is None else [self.mask])]
        return sum(2 * BLOCK + len(member) for member in members)


@dataclass
class ShardWriter:
    """Stages samples as new shards of one batch; `commit` puts them in place, `discard` takes them back."""

    folder: Path
    batch: int
    max_bytes: int = MAX_BYTES
    max_samples: int = MAX_SAMPLES
    _waiting: list[Sample] = field(default_factory=list)
    _waiting_bytes: int = 0
    _added: list[str] = field(default_factory=list)
    _rewritten: dict[str, list[str]] = field(default_factory=dict)  # shard -> what stands in for it: one or none

    def add(self, sample: Sample) -> None:
        """Take a sample; a shard is staged each time that one is full."""
        is_over = self._waiting_bytes + sample.num_bytes > self.max_bytes
        if self._waiting and (len(self._waiting) == self.max_samples or is_over):
            self.stage()
        sample.row["batch"] = self.batch
        self._waiting.append(sample)
        self._waiting_bytes += sample.num_bytes

    def stage(self) -> None:
        """Write what was taken and is not staged yet, though its shard is not full."""
        if self._waiting:
            self._added.append(self._stage(self._waiting))
        self._waiting, self._waiting_bytes = [], 0

    def remove(self, shard: str, keys: Iterable[str]) -> None:
        """Stage the other samples of a shard as one that stands in for it; once a shard."""
        gone = set(keys)
        dataset = Dataset(self.folder)
        rows = pyarrow.parquet.read_table(self._index(shard), schema=index.SCHEMA).to_pylist()
        kept = [_stored(dataset, row) for row in rows if row["key"] not in gone]
        self._rewritten[shard] = [self._stage(kept)] if kept else []

    def commit(self) -> tuple[int, int]:
        """Put in place what is staged, then delete what it replaces; numbers of shards added and rewritten.

        Stopped halfway, samples of a rewritten shard may be there twice, but none is lost; the next ingest of the same
        source puts that right.
        """
        self.stage()
        staged = [*self._added, *(name for names in self._rewritten.values() for name in names)]
        for shard in staged:
            # Readers see a shard once its index is there, so the tar goes first.
            _temporary(self._tar(shard)).replace(self._tar(shard))
            _temporary(self._index(shard)).replace(self._index(shard))
        self._folders_to_disk()
        for shard in sorted(self._rewritten.keys() - set(staged)):
            self._index(shard).unlink()
            self._tar(shard).unlink()
        self._folders_to_disk()
        return len(self._added), len(self._rewritten)

    def discard(self) -> None:
        """Delete what is staged, and its folders if nothing was there before."""
        remove_leftovers(self.folder)
        for name in ("shards", "index"):
            remove_if_empty(self.folder / name)

    def _stage(self, samples: list[Sample]) -> str:
        """Write a shard and its index under temporary names; the shard's name."""
        ordered = sorted(samples, key=lambda sample: sample.row["key"])
        shard = name_of([sample.row for sample in ordered])
        for path in (self._tar(shard), self._index(shard)):
            path.parent.mkdir(parents=True, exist_ok=True)
        with naming(self._tar(shard)), _temporary(self._tar(shard)).open("wb") as f:
            places = _write_tar(f, ordered)
            _to_disk(f)
        rows = [{**sample.row, "shard": shard, **place} for sample, place in zip(ordered, places, strict=True)]
        with naming(self._index(shard)), _temporary(self._index(shard)).open("wb") as f:
            pyarrow.parquet.write_table(pa.Table.from_pylist(rows, index.schema_of(rows)), f, compression="zstd")
            _to_disk(f)
        return shard

    def _tar(self, shard: str) -> Path:
        return self.folder / "shards" / f"{shard}.tar"

    def _index(self, shard: str) -> Path:
        return self.folder / "index" / f"{shard}.parquet"

    def _folders_to_disk(self) -> None:
        for name in ("shards", "index"):
            _folder_to_disk(self.folder / name)


def name_of(rows: Iterable[index.Row]) -> str:
    """Name of the shard that holds these samples, 16 hex: the same for the same samples, annotations and splits."""
    told = (f"{r['key']} {r['sha256']} {r['annotation_hash']} {r['split']}\n" for r in rows)
    return hashlib.sha256("".join(told).encode()).hexdigest()[:16]


def replace_file(path: Path, data: bytes) -> None:
    """Write a small file so that it is there whole or as it was before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)
    _folder_to_disk(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Delete what an ingest that was stopped left: temporary files, and tars without index beside those with one."""
    for file in sorted(folder.glob(f"**/*{TEMPORARY}")):
        file.unlink()
    indexed = {file.stem for file in index.files(folder)}
    for file in sorted((folder / "shards").glob("*.tar")):
        # Without any index, somebody fetched the shards alone: those are not ours to delete.
        if indexed and file.stem not in indexed:
            file.unlink()


def remove_if_empty(folder: Path) -> None:
    """Delete a folder that holds nothing."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _write_tar(f: BinaryIO, samples: Iterable[Sample]) -> list[index.Row]:
    """A tar of KEY.SUFFIX, KEY.json and perhaps KEY.mask.png for each sample; the columns that say where they lie."""
    places = []
    for sample in samples:
        key = sample.row["key"]
        place = {"offset": f.tell() + BLOCK, "size": len(sample.data)}
        _write_member(f, f"{key}.{SUFFIXES[sample.row['format']]}", sample.data)
        _write_member(f, f"{key}.json", sample.annotation)
        if sample.mask is not None:
            place |= {"mask_offset": f.tell() + BLOCK, "mask_size": len(sample.mask)}
            _write_member(f, f"{key}.mask.png", sample.mask)
        places.append(place)
    f.write(bytes(2 * BLOCK))
    return places


def _stored(dataset: Dataset, row: index.Row) -> Sample:
    """A sample as a dataset holds it."""
    data = dataset.read(row["shard"], row["offset"], row["size"])
    offset = row["mask_offset"]
    return Sample(row, data, None if offset is None else dataset.read(row["shard"], offset, row["mask_size"]))


def _write_member(f: BinaryIO, name: str, data: bytes) -> None:
    f.write(_header(name, len(data)))
    f.write(data)
    f.write(bytes(-len(data) % BLOCK))


def _header(name: str, size: int) -> bytes:
    """A USTAR header (POSIX.1-1988) that tells nothing of who wrote it and when: the bytes that tarfile gives."""
    fields = (name.encode(), b"0000644\0", b"0000000\0", b"0000000\0", b"%011o\0" % size, b"00000000000\0")
    rest = (b"0", b"", b"ustar\00000")  # a file, no link; all else is empty
    shape = struct.Struct("100s8s8s8s12s12s8sc100s8s247x")
    checksum = b"%06o\0 " % sum(shape.pack(*fields, b" " * 8, *rest))
    return shape.pack(*fields, checksum, *rest)


def _temporary(path: Path) -> Path:
    return path.with_name(path.name + TEMPORARY)


def _to_disk(f: BinaryIO) -> None:
    f.flush()
    os.fsync(f.fileno())


def _folder_to_disk(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
