"""The index of a dataset: one row a sample, in one parquet file a shard."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from numpy.typing import NDArray

from stages.data import run_lengths
from stages.data.images import ImageFacts
from stages.data.records import Box, Record

# Boxes, polygons and keypoints: pixels of the upright image, continuous edges.
OBJECT = pa.struct(
    [
        ("label", pa.string()),
        ("bbox_xyxy", pa.list_(pa.float64(), 4)),
        ("is_crowd", pa.bool_()),
        ("difficult", pa.bool_()),
        ("truncated", pa.bool_()),
        ("polygons", pa.list_(pa.list_(pa.float64()))),
        ("rle", pa.string()),
        ("keypoints", pa.list_(pa.float64())),
    ]
)

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("shard", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("sha256", pa.string()),
        ("phash", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("mode", pa.string()),
        ("format", pa.string()),
        ("orientation", pa.int8()),
        ("split", pa.string()),
        ("labels", pa.list_(pa.string())),
        ("objects", pa.list_(OBJECT)),
        ("group", pa.string()),
        ("source", pa.string()),
        ("batch", pa.int32()),
        ("annotation_hash", pa.string()),
        ("defects", pa.list_(pa.string())),
        # Null without a mask. A pixel's value is its place in mask_labels, and mask_pixels counts those of each label.
        ("mask_offset", pa.int64()),
        ("mask_size", pa.int64()),
        ("mask_labels", pa.list_(pa.string())),
        ("mask_pixels", pa.list_(pa.int64())),
    ]
)
MASK_COLUMNS = ("mask_offset", "mask_size", "mask_labels", "mask_pixels")

Row = dict[str, Any]

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def files(folder: Path) -> list[Path]:
    """The index files of a dataset, sorted; none where there is no dataset yet."""
    return sorted((folder / "index").glob("*.parquet"))


def read(folder: Path, columns: Sequence[str], split: str | None = None) -> pa.Table:
    """Columns of all index files, in the order of the files."""
    needed = list(columns) if split is None else list(dict.fromkeys([*columns, "split"]))
    # pyarrow.dataset would do this too, but takes half a second to import, in every process.
    with ThreadPoolExecutor() as pool:
        parts = pool.map(lambda file: pyarrow.parquet.ParquetFile(file).read(needed, use_threads=False), files(folder))
        table = pa.concat_tables([SCHEMA.empty_table().select(needed), *(completed(part, needed) for part in parts)])
    chosen = table if split is None else table.filter(pc.equal(table["split"], split))
    return chosen.select(list(columns))


def completed(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """These columns of a table, null where it was written before they existed; KeyError for one that never did."""
    for column in (c for c in columns if c not in table.column_names):
        field = SCHEMA.field(column)
        table = table.append_column(field, pa.nulls(len(table), field.type))
    return table.select(list(columns))


def schema_of(rows: Iterable[Row]) -> pa.Schema:
    """The schema of a shard: columns of masks only where there are any, so that other data keep their bytes."""
    if any(row.get("mask_offset") is not None for row in rows):
        return SCHEMA
    return pa.schema([field for field in SCHEMA if field.name not in MASK_COLUMNS])


def key_of(path: str, sha256: str) -> str:
    """Name of a sample, 16 hex: the same for the same bytes at the same place of a source."""
    return hashlib.sha256(f"{path}\0{sha256}".encode()).hexdigest()[:16]


def annotation_hash(record: Record, mask: bytes | None = None) -> str:
    """16 hex over all that the source says of an image, but not its split; needs no look at the image.

    mask: the bytes of the record's mask, which are not decoded.
    """
    said: list[Any] = [record.labels, _objects(record.boxes), record.group, record.size_px, record.defects]
    if record.mask is not None and mask is not None:
        said += [hashlib.sha256(mask).hexdigest(), sorted(record.mask.names.items()), sorted(record.mask.void)]
    return hashlib.sha256(canonical(said)).hexdigest()[:16]


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces, UTF-8."""
    return _CANONICAL.encode(value).encode()


def row(record: Record, facts: ImageFacts, split: str, annotation: str) -> Row:
    """One row of the index, but for its place (shard, offset, size) and batch; `annotation`: its annotation_hash.

    An annotation is meant for the upright image, unless it claims the size of the stored one and not of the upright
    one: its tool ignored EXIF, so boxes, polygons and keypoints are turned with the image. (Orientations 2, 3 and 4
    keep the size, so nothing can be told and nothing is turned.) A claim that fits neither is a defect.
    """
    objects = _objects(record.boxes)
    defects = [*record.defects, *facts.defects]
    upright_px = (facts.width, facts.height)
    stored_px = upright_px[::-1] if facts.orientation >= 5 else upright_px
    if record.size_px is not None and tuple(record.size_px) not in (upright_px, stored_px):
        claim = "x".join(map(str, record.size_px))
        defects.append(f"annotation claims {claim} pixels, the image has {facts.width}x{facts.height}")
        objects = _without_unfit_masks(objects, facts.height, facts.width, defects)
    elif objects and record.size_px is not None and tuple(record.size_px) != upright_px:
        defects.append(f"objects turned upright with the image (EXIF orientation {facts.orientation})")
        objects = _without_unfit_masks(objects, facts.width, facts.height, defects)
        objects = [_upright(thing, facts) for thing in objects or ()]
    return {
        "key": key_of(record.path, facts.sha256),
        "sha256": facts.sha256,
        "phash": facts.phash,
        "width": facts.width,
        "height": facts.height,
        "mode": facts.mode,
        "format": facts.format,
        "orientation": facts.orientation,
        "split": split,
        "labels": list(record.labels),
        "objects": objects,
        "group": record.group,
        "source": record.path,
        "annotation_hash": annotation,
        "defects": defects,
    }


def _objects(boxes: Iterable[Box] | None) -> list[Row] | None:
    return None if boxes is None else [object_row(box) for box in boxes]


def object_row(box: Box) -> Row:
    """A box as an entry of `objects`."""
    return {
        "label": box.label,
        "bbox_xyxy": [float(v) for v in box.xyxy],
        "is_crowd": box.is_crowd,
        "difficult": box.difficult,
        "truncated": box.truncated,
        "polygons": [[float(v) for v in polygon] for polygon in box.polygons],
        "rle": box.rle,
        "keypoints": [float(v) for v in box.keypoints],
    }


def _without_unfit_masks(objects: list[Row] | None, height: int, width: int, defects: list[str]) -> list[Row] | None:
    """The objects; run lengths that do not fill the image (in pixels, as it is stored) are dropped, and told of."""
    unfit = [thing for thing in objects or () if thing["rle"] and not run_lengths.fills(thing["rle"], height, width)]
    if unfit:
        defects.append(f"{len(unfit)} masks dropped: their run lengths do not fill {width}x{height} pixels")
    return objects and [{**thing, "rle": None} if thing in unfit else thing for thing in objects]


def _upright(thing: Row, facts: ImageFacts) -> Row:
    """An object in the pixels of the stored image, moved to those of the upright one (orientations 5 to 8)."""

    def turn(x: float, y: float) -> tuple[float, float]:
        # The stored image is facts.height wide and facts.width high.
        across = y if facts.orientation in (5, 8) else facts.width - y
        down = x if facts.orientation in (5, 6) else facts.height - x
        return across, down

    x0, y0, x1, y1 = thing["bbox_xyxy"]
    (ax, ay), (bx, by) = turn(x0, y0), turn(x1, y1)
    # Sorting would repair a box with x1 < x0, and hide it from validate: edges swap only where the turn mirrors.
    left, right = (ax, bx) if facts.orientation in (5, 8) else (bx, ax)
    top, bottom = (ay, by) if facts.orientation in (5, 6) else (by, ay)
    joints = thing["keypoints"]
    turned = [turn(x, y) if v > 0 else (x, y) for x, y, v in zip(joints[::3], joints[1::3], joints[2::3], strict=True)]
    return {
        **thing,
        "bbox_xyxy": [left, top, right, bottom],
        "polygons": [
            [v for point in zip(polygon[::2], polygon[1::2], strict=True) for v in turn(*point)]
            for polygon in thing["polygons"]
        ],
        "rle": thing["rle"] and run_lengths.turned(thing["rle"], facts.orientation, facts.width, facts.height),
        "keypoints": [v for (x, y), seen in zip(turned, joints[2::3], strict=True) for v in (x, y, seen)],
    }


@dataclass(frozen=True)
class Held:
    """A sample that a dataset holds: once, unless branches that overlap were merged."""

    said: frozenset[tuple[str, str]]  # annotation hash, split
    shards: tuple[str, ...]


class Known:
    """What a dataset holds already, small enough (about 30 bytes a sample) to hand to every reader."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        table = read(folder, ["key", "annotation_hash", "split", "shard", "batch"]).sort_by("key")
        self.last_batch: int = pc.max(table["batch"]).as_py() or 0
        self._keys = _numbers(table["key"])
        self._annotations = _numbers(table["annotation_hash"])
        self._splits, self._split_names = _codes(table["split"])
        self._shards, self._shard_names = _codes(table["shard"])

    def get(self, key: str) -> "Held | None":
        """What is there of a sample; None when it is new."""
        number = np.uint64(int(key, 16))
        first = int(self._keys.searchsorted(number))
        last = first
        while last < len(self._keys) and self._keys[last] == number:
            last += 1
        if last == first:
            return None
        rows = range(first, last)
        return Held(
            said=frozenset((f"{self._annotations[i]:016x}", self._split_names[self._splits[i]]) for i in rows),
            shards=tuple(self._shard_names[self._shards[i]] for i in rows),
        )


def _numbers(hashes: pa.ChunkedArray) -> NDArray[np.uint64]:
    return np.frombuffer(bytes.fromhex("".join(hashes.to_pylist())), ">u8").astype(np.uint64)


def _codes(names: pa.ChunkedArray) -> tuple[NDArray[np.int32], list[str]]:
    coded = names.combine_chunks().dictionary_encode()
    return coded.indices.to_numpy(), coded.dictionary.to_pylist()
