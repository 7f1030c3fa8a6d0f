"""Finds an image in all versions of a dataset at once: small arrays under .visionline/, mapped and not read."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stages.data import history, objects
from stages.params.files import write_atomically
from stages.tracking.process import LOCAL_STATE

FOLDER = LOCAL_STATE / "trace" / "index"
FORMAT = 3
FACTS = ("key", "sha256", "split", "labels", "source", "shard")
MIN_PREFIX, FULL = 8, 64  # hex digits of a sha256
DIGITS = 16  # hex digits that the arrays keep
READERS = 2  # more of them would wait for each other: half of a small file's time is Python's

# First 64 bits of the sha256, and the perceptual hash, of each row of an index file.
Hashes = tuple[NDArray[np.uint64], NDArray[np.uint64]]


@dataclass(frozen=True)
class Sighting:
    """A sample that shows the image, and the versions of the dataset that hold it."""

    dataset: str
    key: str
    sha256: str
    split: str
    labels: list[str]
    source: str
    shard: str
    versions: tuple[str, ...]  # hashes
    bits: int  # that its perceptual hash differs by from the image's; 0 where the bytes are the same


class Lookup:
    """Hashes of each row of all index files of some versions of a dataset, as arrays; built when they are not there."""

    def __init__(self, name: str, versions: Sequence[str]) -> None:
        self.name = name
        self.folder = FOLDER / name
        self._told = self._manifest(versions)

    def _manifest(self, versions: Sequence[str]) -> dict[str, Any]:
        file = self.folder / "manifest.json"
        if file.is_file():
            told = json.loads(file.read_text(encoding="utf8"))
            is_ours = told["format"] == FORMAT and set(versions) <= told["versions"].keys()
            if is_ours and not any(map(_is_back, told["lost"])):
                return told
        return self._build(versions)

    @property
    def unreadable(self) -> list[str]:
        """Versions whose index is neither in the cache nor in a remote, so that nothing can be said of them.

        They are looked for again once `dvc fetch` has brought what was lost into the cache.
        """
        return self._told["unreadable"]

    def find(self, sha256: str) -> list[Sighting]:
        """Samples with these bytes; sha256 of 64 hex digits or its first ones, at least 8."""
        rows = self._rows(sha256)
        return [s for s in self._sightings(rows, np.zeros(len(rows), int)) if s.sha256.startswith(sha256)]

    def _rows(self, sha256: str) -> NDArray[np.intp]:
        """Rows whose sha256 begins with the first 16 of these digits, or with all of them where there are fewer."""
        low, high = (np.uint64(int(sha256[:DIGITS].ljust(DIGITS, digit), 16)) for digit in "0f")
        hashes = self._array("sha256")
        # To look at a million of them takes milliseconds, to sort them once for a search a hundred times as long.
        return np.flatnonzero((hashes >= low) & (hashes <= high))

    def similar(self, phash: str, max_bits: int) -> list[Sighting]:
        """Samples whose perceptual hash (16 hex) differs in at most max_bits of 64 bits, the most similar first."""
        bits = np.bitwise_count(self._array("phash") ^ np.uint64(int(phash, 16)))
        rows = np.flatnonzero(bits <= max_bits)
        return sorted(self._sightings(rows, bits[rows]), key=lambda s: (s.bits, s.source))

    def phash(self, sha256: str) -> str | None:
        """The perceptual hash of the image with these bytes, 16 hex; None when no version holds it."""
        found = self.find(sha256)
        if not found:
            return None
        return f"{int(self._array('phash')[self._rows(found[0].sha256)[0]]):016x}"

    def _sightings(self, rows: NDArray[Any], bits: NDArray[Any]) -> list[Sighting]:
        """Facts of rows, from the index files that they lie in; each file is read once."""
        files = np.searchsorted(self._starts, rows, "right") - 1
        found = []
        for number in np.unique(files).tolist():
            chosen = files == number
            table = self._file(number)
            # Row by row: to take them with an array, Arrow would import pandas, which is slower than all else here.
            places = (rows[chosen].astype(np.int64) - self._starts[number]).tolist()
            facts = [table.slice(place, 1).to_pylist()[0] for place in places]
            versions = tuple(v for v in self._told["versions"] if number in self._members[v])
            found += [_sighting(self.name, row, versions, int(b)) for row, b in zip(facts, bits[chosen], strict=True)]
        return found

    def _file(self, number: int) -> pa.Table:
        md5 = self._told["files"][number]
        objects.fetch([md5])
        return history.read_index(md5, FACTS)

    def _array(self, name: str) -> NDArray[Any]:
        return np.load(self.folder / f"{self._told['stamp']}.{name}.npy", mmap_mode="r")

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return np.array(self._told["starts"], np.int64)

    @cached_property
    def _members(self) -> Mapping[str, frozenset[int]]:
        return {version: frozenset(files) for version, files in self._told["versions"].items()}

    def _build(self, versions: Sequence[str]) -> dict[str, Any]:
        """Read every index file once and write the arrays; the manifest comes last."""
        files: dict[str, int] = {}
        members: dict[str, list[int]] = {}
        unreadable: list[str] = []
        lost: set[str] = set()
        for version in versions:
            try:
                listed = list(history.index_files(version).values())
            except FileNotFoundError:
                unreadable.append(version)
                lost.add(version)
                members[version] = []
                continue
            members[version] = [files.setdefault(md5, len(files)) for md5 in listed]
        absent = objects.fetch(files)
        lost |= absent
        unreadable += [
            version for version, held in members.items() if {files[md5] for md5 in absent}.intersection(held)
        ]
        parts = _hashes([None if md5 in absent else md5 for md5 in files])
        stamp = _stamp([*files, *sorted(versions), str(sorted(lost))])
        self._write_arrays(stamp, parts)
        told = {
            "format": FORMAT,
            "stamp": stamp,
            "versions": members,
            "files": list(files),
            "starts": np.cumsum([0, *(len(part[0]) for part in parts)])[:-1].tolist(),
            "unreadable": unreadable,
            "lost": sorted(lost),
        }
        objects.write(self.folder / "manifest.json", json.dumps(told).encode())
        for old in self.folder.glob("*.npy"):
            if not old.name.startswith(stamp):
                old.unlink(missing_ok=True)
        return told

    def _write_arrays(self, stamp: str, parts: Sequence[Hashes]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(("sha256", "phash")):
            content = io.BytesIO()  # to a file NumPy writes by itself, and does not say why it could not
            np.save(content, np.concatenate([np.empty(0, np.uint64), *(part[number] for part in parts)]))
            write_atomically(self.folder / f"{stamp}.{name}.npy", content.getvalue())


def _sighting(name: str, row: Mapping[str, Any], versions: tuple[str, ...], bits: int) -> Sighting:
    told = (row["key"], row["sha256"], row["split"], row["labels"] or [], row["source"], row["shard"])
    return Sighting(name, *told, versions, bits)


def _stamp(parts: Sequence[str]) -> str:
    """A name for arrays of these contents."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _hashes(md5s: Sequence[str | None]) -> list[Hashes]:
    """The hashes of each index file; none of a lost file."""

    def read(md5: str | None) -> Hashes:
        if md5 is None:
            return np.empty(0, np.uint64), np.empty(0, np.uint64)
        table = history.read_index(md5, ("sha256", "phash"))
        return first_64_bits(table["sha256"]), first_64_bits(table["phash"])

    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(read, md5s))


def first_64_bits(column: pa.ChunkedArray) -> NDArray[np.uint64]:
    """The first 16 hex digits of each row (all of one length, none null) as a number; read where Arrow keeps them."""
    parts = [np.empty(0, np.uint64)]
    for chunk in filter(len, column.chunks):
        _, offsets, data = chunk.buffers()
        starts = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
        digits = np.frombuffer(data, np.uint8)[starts[0] : starts[-1]].reshape(len(chunk), -1)[:, :DIGITS]
        halves = (digits & 15) + 9 * (digits >> 6)  # the ASCII codes of 0-9 are 48-57, those of a-f 97-102
        parts.append((halves[:, ::2] << 4 | halves[:, 1::2]).view(">u8").ravel().astype(np.uint64))
    return np.concatenate(parts)


def _is_back(md5: str) -> bool:
    return objects.cached(md5).is_file()


def is_sha256(text: str) -> bool:
    """Whether a text can be the hash of an image's bytes, or enough of it to find one."""
    return MIN_PREFIX <= len(text) <= FULL and set(text.lower()) <= set("0123456789abcdef")
