"""One object of a COCO file: box, polygons, run lengths, keypoints (cocodataset.org/#format-data)."""

from typing import Any, TypeGuard

from stages.data import run_lengths
from stages.data.records import Box

_Size = tuple[int, int] | None
_MAX_COORDINATE = 1e9  # also stops what a float can't hold


def read_object(
    annotation: dict[str, Any], label: str, size_px: _Size, num_joints: int
) -> tuple[Box | None, list[str]]:
    """The box and its defects; None for one without area. What is wrong beyond the box is dropped from it."""
    name = f"annotation {annotation.get('id')!r:.40} ({label})"
    bbox = annotation.get("bbox")
    if not _is_numbers(bbox) or len(bbox) != 4:
        return None, [f"{name}: bbox {bbox!r:.80} is not four finite numbers: dropped"]
    x, y, width, height = map(float, bbox)
    if width <= 0 or height <= 0:
        return None, [f"{name}: bbox {bbox} has no area: dropped"]
    polygons, rle, defects = _read_segmentation(annotation.get("segmentation"), size_px)
    keypoints = annotation.get("keypoints") or []
    if not _is_numbers(keypoints) or len(keypoints) not in (0, 3 * num_joints):
        keypoints, defects = [], [*defects, f"keypoints are not 3 numbers for each of {num_joints} joints: dropped"]
    flags = said if isinstance(said := annotation.get("attributes"), dict) else {}  # as CVAT and our export write them
    box = Box(
        label,
        (x, y, x + width, y + height),
        is_crowd=bool(annotation.get("iscrowd")),
        difficult=flags.get("difficult") is True,
        truncated=flags.get("truncated") is True,
        polygons=polygons,
        rle=rle,
        keypoints=tuple(map(float, keypoints)),
    )
    return box, [f"{name}: {defect}" for defect in defects]


def _is_numbers(values: Any) -> TypeGuard[list[float]]:
    return isinstance(values, list) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MAX_COORDINATE
        for value in values
    )


def _read_segmentation(value: Any, size_px: _Size) -> tuple[tuple[tuple[float, ...], ...], str | None, list[str]]:
    """Polygons, compressed run lengths, defects."""
    if isinstance(value, dict):
        rle = _read_rle(value, size_px)
        return (), rle, [] if rle else [f"run lengths do not fill the image {size_px}: dropped"]
    parts = value if isinstance(value, list) else []
    good = [part for part in parts if _is_numbers(part) and len(part) >= 6 and len(part) % 2 == 0]
    defects = (
        [f"{len(parts) - len(good)} polygons of less than three points: dropped"] if len(good) < len(parts) else []
    )
    return tuple(tuple(map(float, part)) for part in good), None, defects


def _read_rle(value: dict[str, Any], size_px: _Size) -> str | None:
    """Compressed counts of either kind of run lengths; None unless they cover exactly the image that is claimed."""
    counts, size = value.get("counts"), value.get("size")
    if size_px is None or size != [size_px[1], size_px[0]]:
        return None
    if isinstance(counts, str):
        return counts if run_lengths.fills(counts, *size) else None
    is_counted = isinstance(counts, list) and all(type(run) is int and run >= 0 for run in counts)
    if not isinstance(counts, list) or not is_counted or sum(counts) != size[0] * size[1]:
        return None
    return str(run_lengths.of_runs(counts, *size)["counts"])
