"""What pose data sets in COCO's form do otherwise than COCO: joints without names, other keys, no boxes."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from stages.data.formats._joints import box_of


def unnamed(annotations: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    """Names by number for the joints of a file whose categories name none, as Halpe's; () where they differ in number.

    A file without any joint gives (), too.
    """
    counts = {len(joints) for entry in annotations if isinstance(joints := entry.get("keypoints"), list) and joints}
    count = counts.pop() if len(counts) == 1 else 0
    return tuple(f"joint_{number}" for number in range(1, count // 3 + 1)) if count % 3 == 0 else ()


def completed(
    annotation: dict[str, Any], num_joints: int, size_px: tuple[int, int] | None
) -> tuple[dict[str, Any], list[str]]:
    """An annotation with the joints of its skeleton and with a box, and the defects that this mends.

    Human-Art has `keypoints` for COCO's 17 joints and `keypoints_21` for its own; MPII-TRB has no boxes.
    """
    own = annotation.get(f"keypoints_{num_joints}")
    entry = {**annotation, "keypoints": own} if isinstance(own, list) else annotation
    joints = entry.get("keypoints")
    if entry.get("bbox") is not None or not isinstance(joints, list) or len(joints) != 3 * num_joints:
        return entry, []
    try:
        xyxy = box_of(np.array(joints, np.float64).reshape(-1, 3), size_px)
    except (ValueError, TypeError, OverflowError):  # not numbers: whoever reads the joints says so
        xyxy = None
    if xyxy is None:
        return entry, []
    x1, y1, x2, y2 = xyxy
    defect = f"annotation {annotation.get('id')!r:.40}: no bbox: that of its joints, with a margin"
    return {**entry, "bbox": [x1, y1, x2 - x1, y2 - y1]}, [defect]
