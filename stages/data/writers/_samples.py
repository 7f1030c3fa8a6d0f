"""The samples of an export: rows of the index, each with a path for its image that no other has."""

import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import pyarrow as pa

from stages.data.formats._files import IMAGE_SUFFIXES, is_image
from stages.data.images import SUFFIXES
from stages.data.index import Row

COLUMNS = (
    *("key", "shard", "offset", "size", "width", "height", "mode", "format"),
    *("split", "labels", "objects", "group", "source", "mask_offset", "mask_size", "mask_labels"),
)
_NO_POLYGONS: Row = {"polygons": [], "rle": None}
# What of an object is wanted beside its box -> what is taken away.
ONLY: dict[str, Row] = {
    "boxes": {**_NO_POLYGONS, "keypoints": []},
    "polygons": {"keypoints": []},
    "keypoints": _NO_POLYGONS,
}
_BATCH = 1024
_MAX_NAME = 180  # characters of a file name, of which file systems take 255 bytes
# What a file system or a reader would not take as a name: a leading dot hides a file, and lists strip spaces.
_UNSAFE = re.compile(r'[\x00-\x1f<>:"/\\|?*\x7f]|^[.\s]+|[.\s]+$')


@dataclass(frozen=True)
class Sample:
    """One sample on its way out."""

    path: str  # of its image in the export, '/' between parts
    row: Row
    read_mask: Callable[[], bytes] | None = None  # None: it has no mask

    @property
    def name(self) -> str:
        """File name of the image without suffix."""
        return posixpath.splitext(posixpath.basename(self.path))[0]

    @cached_property
    def mask(self) -> bytes | None:
        """As the dataset stores it, read when it is asked for: places in the row's mask_labels, or VOID."""
        return self.read_mask() if self.read_mask is not None else None


class Samples:
    """Rows of a table in the order of their new paths, made into samples as they are asked for.

    read: the bytes at a shard, offset and size. only: what of the objects is wanted, a key of ONLY; None: everything.
    """

    def __init__(
        self,
        table: pa.Table,
        read: Callable[[str, int, int], bytes],
        place: Callable[[Row], str | None],
        only: str | None = None,
    ) -> None:
        self.read = read
        self.without = ONLY[only] if only else {}
        columns = table.select(["key", "source", "format", "split", "labels", "mask_offset"])
        placed = [_placed(row, place) for row in _rows(columns)]
        paths = _unique(placed)
        order = sorted((path, number) for number, path in enumerate(paths) if path is not None)
        self.paths = [path for path, _ in order]
        self.table = table.take(pa.array([number for _, number in order], pa.int64()))
        self.num_left_out = len(paths) - len(self.paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[Sample]:
        for path, row in zip(self.paths, _rows(self.table), strict=True):
            if self.without and row["objects"]:
                row["objects"] = [thing | self.without for thing in row["objects"]]
            yield Sample(path, row, self._mask_of(row))

    def _mask_of(self, row: Row) -> Callable[[], bytes] | None:
        offset = row["mask_offset"]
        return None if offset is None else partial(self.read, row["shard"], offset, row["mask_size"])


def _rows(table: pa.Table) -> Iterator[Row]:
    for batch in table.to_batches(max_chunksize=_BATCH):
        yield from batch.to_pylist()


def safe_name(name: str) -> str:
    """A name that every file system takes, the same when it is one already."""
    return _UNSAFE.sub("_", _UNSAFE.sub("_", name)[:_MAX_NAME]) or "_"


@dataclass(frozen=True)
class _Placed:
    """A row's folder, and names for its image from the shortest on."""

    folder: str
    names: tuple[str, ...]
    suffix: str


def _placed(row: Row, place: Callable[[Row], str | None]) -> _Placed | None:
    folder = place(row)
    if folder is None:
        return None
    base, suffix = posixpath.splitext(row["source"]) if is_image(row["source"]) else (row["source"], "")
    base = base.replace(".", "_") if is_image(base) else base  # "a.jpg.png": lists take "a.jpg" for the image "a"
    parts = base.split("/")
    long = "_".join(part for part in parts if part)
    names = (safe_name(parts[-1]), safe_name(long), f"{safe_name(parts[-1])}_{row['key']}")
    return _Placed(folder, names, suffix if suffix.lower() in IMAGE_SUFFIXES else f".{SUFFIXES[row['format']]}")


def _unique(placed: list[_Placed | None]) -> list[str | None]:
    """The shortest name that is unique in its folder, whatever the suffix and the case of letters."""
    chosen: list[str | None] = [None] * len(placed)
    left = [number for number, item in enumerate(placed) if item is not None]
    taken: set[tuple[str, str]] = set()
    for level in range(3):
        named = {n: (item.folder, item.names[level].casefold()) for n in left if (item := placed[n]) is not None}
        counts = Counter(named.values())
        free = [n for n in left if level == 2 or (counts[named[n]] == 1 and named[n] not in taken)]
        for n in free:
            item = placed[n]
            assert item is not None
            chosen[n] = posixpath.join(item.folder, item.names[level] + item.suffix)
        # A name that several wanted stays free: nobody could tell whose it is.
        taken |= {named[n] for n in free} | ({*counts} if level == 0 else set())
        left = [n for n in left if chosen[n] is None]
    return chosen
