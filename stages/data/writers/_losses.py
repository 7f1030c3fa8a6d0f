"""What an export lost: it is read back as a source, and each annotation compared with the dataset's."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from stages.data import masks
from stages.data.dataset import Description
from stages.data.index import Row, object_row
from stages.data.records import Record, Rejected, Source
from stages.data.writers._samples import Sample, Samples

_FLAGS = {"is_crowd": "crowd flags", "difficult": "difficult flags", "truncated": "truncated flags"}
_ROUNDING_PX = 1e-9  # the width in a COCO box is a difference, whose last bit is not always there
_SHAPES = {"polygons": "polygons", "rle": "masks of run lengths", "keypoints": "keypoints"}


def losses(samples: Samples, source: Source, description: Description, keeps: Callable[[Row], bool]) -> dict[str, int]:
    """What -> how often, of all that the source does not give back as the dataset has it; {} when nothing is lost.

    The source's records and the samples are both in the order of their paths.
    """
    lost: Counter[str] = Counter({"images": samples.num_left_out})
    records = source.records()
    record = _next(records)
    for sample in samples:
        while record is not None and record.path < sample.path:
            record = _next(records)
        if record is None or record.path != sample.path:
            lost["images that can't be read back"] += 1
        else:
            lost += _of_sample(sample, record, keeps)
    lost += _of_whole(source, description)
    return {what: count for what, count in sorted(lost.items()) if count}


def in_words(lost: dict[str, int]) -> str:
    """For a person: counts, but for what there is one of."""
    return ", ".join(what if what.startswith("the ") else f"{count:,} {what}" for what, count in lost.items())


def _next(records: Iterator[Record | Rejected]) -> Record | None:
    return next((item for item in records if isinstance(item, Record)), None)


def _of_sample(sample: Sample, record: Record, keeps: Callable[[Row], bool]) -> Counter[str]:
    row, lost = sample.row, Counter[str]()
    lost["labels of images"] += len({*row["labels"]} ^ {*record.labels})
    lost["splits of images"] += record.split != row["split"]
    lost["groups of images"] += record.group != row["group"]
    lost["masks"] += not _is_same_mask(sample, record)
    things = row["objects"] or []
    kept = [thing for thing in things if keeps(thing)]
    lost["crowds" if any(thing["is_crowd"] for thing in things) else "objects"] += len(things) - len(kept)
    found = [object_row(box) for box in record.boxes or ()]
    lost["objects that can't be read back"] += abs(len(kept) - len(found))
    if len(kept) == len(found):
        for before, after in zip(kept, found, strict=True):
            lost.update(_of_object(before, after))
    return lost


def _is_same_mask(sample: Sample, record: Record) -> bool:
    """Whether each pixel has the label that it had, or none as before."""
    if sample.mask is None or record.mask is None:
        return (sample.mask is None) == (record.mask is None)
    labels = sorted({*sample.row["mask_labels"], *record.mask.names.values()})
    before = masks.placed(sample.mask, dict(enumerate(sample.row["mask_labels"])), labels)
    return np.array_equal(before, masks.placed(record.mask.image.read(), record.mask.names, labels))


def _of_object(before: Row, after: Row) -> Iterator[str]:
    if before["label"] != after["label"]:
        yield "labels of objects"
    moved_px = max(abs(a - b) for a, b in zip(before["bbox_xyxy"], after["bbox_xyxy"], strict=True))
    if moved_px > _ROUNDING_PX:
        yield f"boxes, by {_step(moved_px)}"
    for name, words in _FLAGS.items():
        if before[name] != after[name]:
            yield words if before[name] else f"{words} that were not there"
    for name, words in _SHAPES.items():
        if before[name] != after[name] and (name != "keypoints" or any(before[name]) or any(after[name])):
            yield words if before[name] else f"{words} that were not there"


def _step(moved_px: float) -> str:
    return next((f"at most {step:g} pixels" for step in (0.001, 0.1, 1) if moved_px <= step), "more than 1 pixel")


def _of_whole(source: Source, description: Description) -> Counter[str]:
    before, after = description.classes, dict(source.classes)
    shared = [label for label in before if label in after]
    lost = Counter({"classes without an object": len(before) - len(shared)})
    lost["the order of the classes"] += shared != [label for label in after if label in before]
    lost["names of classes for people"] += sum(before[label] not in (after[label], label) for label in shared)
    pairs: tuple[tuple[str, Any, Any], ...] = (
        ("the skeleton", description.skeleton, source.skeleton),
        ("the edges of the skeleton", description.skeleton_edges, source.skeleton_edges),
        ("the licence", description.licence, source.licence),
        ("the origin", description.origin, source.origin),
    )
    lost.update(what for what, held, found in pairs if held and tuple(held) != tuple(found))
    return lost
