"""Reads the records of a source into samples: in parallel over cores, in the order of the source."""

import hashlib
import multiprocessing
import warnings
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pyarrow.parquet

from stages.data import index, masks
from stages.data.dataset import Dataset
from stages.data.images import inspect
from stages.data.records import Record, Rejected
from stages.data.shards import Sample
from stages.data.splits import DEFAULT_FRACTIONS, split_of
from stages.data.workers import follow_parent

CHUNK_RECORDS = 64
CHUNK_BYTES = 16 * 2**20
FEW = 256  # records that are read sooner than processes start
# Imported once for all workers: this module, and what is slow of the program, which each of them imports again.
PRELOADED = [__name__, "stages.params.section", "rich.progress"]
_SHOWN = ("split", "labels", "objects", "group", "defects", "mask_labels")


@dataclass(frozen=True)
class Unchanged:
    """A record that the dataset holds already, with this annotation and split."""

    record: Record
    split: str


@dataclass(frozen=True)
class Arrived:
    """A record that was read: a new sample, or one with a new annotation or split."""

    record: Record
    split: str
    sample: Sample
    outdated_in: tuple[str, ...]  # shards that hold it with another annotation or split; none: it is new


Outcome = Arrived | Unchanged | Rejected


@dataclass(frozen=True)
class Reader:
    """Turns a record into a sample, looking at the image only when it isn't known yet."""

    known: index.Known
    fractions: Mapping[str, float] | None = None  # None: the source's split, or else by hash

    def __call__(self, item: Record | Rejected) -> Outcome:
        if isinstance(item, Rejected):
            return item
        try:
            outcome = self._read(item)
        except OSError as error:
            return Rejected(item.path, f"can't be read: {error.strerror or error}")
        except UnicodeEncodeError:
            return Rejected(item.path, "the name is not UTF-8")
        except ValueError as error:
            return Rejected(item.path, str(error))
        # Here, because a hole in the dataset is no fault of the image.
        return Unchanged(item, outcome.split) if _is_shown(self.known, outcome) else outcome

    def _read(self, record: Record) -> Arrived | Unchanged:
        data = record.image.read()
        sha256 = hashlib.sha256(data).hexdigest()
        key = index.key_of(record.path, sha256)
        held = self.known.get(key)
        split = self._split(record, sha256, held)
        mask = record.mask.image.read() if record.mask is not None else None
        annotation = index.annotation_hash(record, mask)
        if held is not None and held.said == {(annotation, split)}:
            return Unchanged(record, split)
        sample = _sample(record, data, mask, split, annotation)
        return Arrived(record, split, sample, outdated_in=held.shards if held is not None else ())

    def _split(self, record: Record, sha256: str, held: index.Held | None) -> str:
        """As asked for, or as the source says, or where the sample is, or by its hash."""
        if self.fractions is not None:
            return split_of(sha256, record.group, self.fractions)
        if record.split is not None:
            return record.split
        if held is not None:
            return min(split for _, split in held.said)
        return split_of(sha256, record.group, DEFAULT_FRACTIONS)


def _sample(record: Record, data: bytes, mask: bytes | None, split: str, annotation: str) -> Sample:
    """An image and its mask, decoded and checked; ValueError with the reason when one of them can't be used."""
    facts = inspect(data)
    row = index.row(record, facts, split, annotation)
    if record.mask is None or mask is None:
        return Sample(row, data)
    try:
        stored = masks.store(mask, record.mask, facts)
    except ValueError as error:
        raise ValueError(f"mask {record.mask.image.file.name}: {error}") from None
    columns = {"mask_labels": list(stored.labels), "mask_pixels": list(stored.pixels)}
    return Sample(row | columns | {"defects": [*row["defects"], *stored.defects]}, data, stored.png)


def _is_shown(known: index.Known, outcome: Arrived | Unchanged) -> bool:
    """Whether a dataset shows a sample with just this mask, though the source's list of names is another by now.

    That list grows with each new class; a sample whose pixels mean what they meant has no new annotation.
    FileNotFoundError where the dataset lacks the shard that holds it.
    """
    if not isinstance(outcome, Arrived) or not outcome.outdated_in:
        return False
    sample, mask, shard = outcome.sample, outcome.sample.mask, outcome.outdated_in[0]
    held = known.get(sample.row["key"])
    if mask is None or held is None or len(held.said) > 1:  # merged branches disagree: one of them has to go
        return False
    row = _rows(known.folder / "index" / f"{shard}.parquet").get(sample.row["key"], {})
    if any(row.get(column) != sample.row[column] for column in _SHOWN):
        return False
    stored = _dataset(known.folder).read(shard, row["mask_offset"], row["mask_size"])
    # The same pixels are the same bytes, unless another zlib packed them.
    return stored == mask or np.array_equal(masks.values(stored), masks.values(mask))


@lru_cache(maxsize=1)
def _dataset(folder: Path) -> Dataset:
    """The dataset that is added to: shards that are open stay open."""
    return Dataset(folder)


@lru_cache(maxsize=4)
def _rows(file: Path) -> dict[str, index.Row]:
    """Key -> what the index file of a shard says of the sample and where its mask lies."""
    wanted = ("key", *_SHOWN, "mask_offset", "mask_size")
    table = index.completed(pyarrow.parquet.ParquetFile(file).read(), wanted)
    return {row["key"]: row for row in table.to_pylist()}


def read_all(items: Iterable[Record | Rejected], reader: Reader, workers: int) -> Generator[Outcome, None, None]:
    """What becomes of each record, in their order; a few are read here, more by worker processes."""
    stream = _unique(items)
    first = list(islice(stream, FEW))
    if workers == 1 or len(first) < FEW:
        yield from map(reader, chain(first, stream))
    else:
        yield from _read_apart(chain(first, stream), reader, workers)


def _unique(items: Iterable[Record | Rejected]) -> Iterator[Record | Rejected]:
    """Reject a path that a source lists twice in a row (its records are sorted by path)."""
    last = None
    for item in items:
        is_again = isinstance(item, Record) and item.path == last
        yield Rejected(item.path, "listed twice in the source") if is_again else item
        last = item.path if isinstance(item, Record) else last


def _read_apart(stream: Iterator[Record | Rejected], reader: Reader, workers: int) -> Iterator[Outcome]:
    # Forked from a process that has imported all and runs no threads: starts soon and can't inherit a held lock.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with ProcessPoolExecutor(workers, context, initializer=_start, initargs=(reader,)) as pool:
        waiting: deque[Future[list[Outcome]]] = deque()
        try:
            for chunk in _chunks(stream):
                waiting.append(pool.submit(_read_chunk, chunk))
                if len(waiting) > 2 * workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _chunks(stream: Iterator[Record | Rejected]) -> Iterator[list[Record | Rejected]]:
    """Neighbouring records, as many as are worth a message and fit into memory several times."""
    chunk: list[Record | Rejected] = []
    size = 0
    for item in stream:
        chunk.append(item)
        size += _size(item)
        if len(chunk) == CHUNK_RECORDS or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _size(item: Record | Rejected) -> int:
    if isinstance(item, Rejected):
        return 0
    try:
        return item.image.num_bytes() + (item.mask.image.num_bytes() if item.mask is not None else 0)
    except OSError:
        return 0  # the reader will say what is wrong


def quieten() -> None:
    """Hide Pillow's warnings: what they tell of is a defect or a reason already."""
    warnings.filterwarnings("ignore", module="PIL")


def _start(reader: Reader) -> None:
    """Prepare a worker process."""
    global _reader
    _reader = reader
    quieten()
    follow_parent()


def _read_chunk(chunk: list[Record | Rejected]) -> list[Outcome]:
    return [_reader(item) for item in chunk]


_reader: Reader
