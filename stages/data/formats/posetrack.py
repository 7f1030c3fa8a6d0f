"""PoseTrack18 (Andriluka et al. 2018), and JHMDB in the same form: COCO's, of frames of videos.

Frames of one video stay in one split. A box that reaches out of its image, as PoseTrack's do, is cut there. Regions
where PoseTrack left people out (`ignore_regions_x`, `_y`) become crowds, in which detections are neither right nor
wrong.
"""

import json
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stages.data.formats import coco
from stages.data.formats._coco_json import split_of
from stages.data.formats._files import Catalogue, printable
from stages.data.records import Box, Record, Rejected, Source


@dataclass(frozen=True)
class _Frame:
    """What a file says of an image beyond COCO."""

    video: str | None
    regions: tuple[tuple[float, ...], ...]  # polygons x, y, x, y, ...


def read(root: Path, images: Path | None = None) -> Source:
    """As format coco, with videos and regions to ignore. ValueError when no file says of which video its images are."""
    source = coco.read(root, images)
    frames = _frames(root)
    if not any(frame.video for frame in frames.values()):
        raise ValueError(f"{root}: no image has a vid_id, as PoseTrack18's and JHMDB's have: use --format coco")
    label = next(iter(source.classes))
    return replace(source, records=lambda: _records(source, frames, label))


def _frames(root: Path) -> dict[str, _Frame]:
    """file_name -> what the JSON files below `root` say of it."""
    found: dict[str, _Frame] = {}
    for path in (path for path in Catalogue(root).paths if path.endswith(".json")):
        content = json.loads((root / path).read_bytes())
        entries = content.get("images") if isinstance(content, dict) else None
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and isinstance(name := entry.get("file_name"), str):
                found.setdefault(posixpath.normpath(name), _frame(entry))
    return found


def _frame(entry: dict[str, Any]) -> _Frame:
    video, xs, ys = (entry.get(key) for key in ("vid_id", "ignore_regions_x", "ignore_regions_y"))
    pairs = zip(xs, ys, strict=False) if isinstance(xs, list) and isinstance(ys, list) else ()
    regions = tuple(region for x, y in pairs if (region := _region(x, y)))
    return _Frame(printable(video) if isinstance(video, str) and video else None, regions)


def _region(xs: Any, ys: Any) -> tuple[float, ...]:
    """A polygon; () for what is none."""
    is_whole = isinstance(xs, list) and isinstance(ys, list) and len(xs) == len(ys) >= 3
    if not is_whole or not all(isinstance(v, int | float) and abs(v) < 1e9 for v in [*xs, *ys]):
        return ()
    return tuple(float(v) for point in zip(xs, ys, strict=True) for v in point)


def _records(source: Source, frames: dict[str, _Frame], label: str) -> Iterator[Record | Rejected]:
    for item in source.records():
        frame = None if isinstance(item, Rejected) else _frame_of(item, frames)
        if isinstance(item, Rejected) or frame is None:
            yield item
            continue
        crowds = (crowd for region in frame.regions if (crowd := _crowd(region, label, item.size_px)))
        # All names of PoseTrack's files end in _test or _train, whatever the split: their folder tells.
        named = (split_of(part) for part in item.path.split("/")[:-1])
        split = next((split for split in named if split), item.split)
        boxes = [_cut(box, item.size_px) for box in item.boxes or ()]
        num_cut = sum(box != before for box, before in zip(boxes, item.boxes or (), strict=True))
        defects = (*item.defects, f"{num_cut} boxes cut at the image's edge") if num_cut else item.defects
        yield replace(item, group=frame.video, split=split, boxes=(*boxes, *crowds), defects=defects)


def _cut(box: Box, size_px: tuple[int, int] | None) -> Box:
    """The box within its image; as it is where nothing of it is, for validate to name."""
    if size_px is None:
        return box
    x1, y1, x2, y2 = box.xyxy
    width, height = size_px
    inside = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    return replace(box, xyxy=inside) if inside[0] < inside[2] and inside[1] < inside[3] else box


def _frame_of(item: Record, frames: dict[str, _Frame]) -> _Frame | None:
    parts = item.path.split("/")
    names = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((frames[name] for name in names if name in frames), None)


def _crowd(region: tuple[float, ...], label: str, size_px: tuple[int, int] | None) -> Box | None:
    """A region as a crowd, its box within the image; None where nothing of it is."""
    width, height = size_px or (max(region[0::2]), max(region[1::2]))
    xs, ys = ([min(max(v, 0.0), most) for v in region[i::2]] for i, most in ((0, width), (1, height)))
    xyxy = min(xs), min(ys), max(xs), max(ys)
    if xyxy[0] >= xyxy[2] or xyxy[1] >= xyxy[3]:
        return None
    return Box(label, xyxy, is_crowd=True, polygons=(region,))
