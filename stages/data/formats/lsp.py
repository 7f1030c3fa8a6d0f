"""Leeds Sports Pose and its extension: images and joints.mat (Johnson and Everingham 2010, 2011).

joints.mat holds `joints`, float64: [3, 14, N] for LSP (x, y, occluded) and [14, 3, N] for the extension (x, y, visible;
a joint that is not visible has no place). Image number i is im....jpg with that number, from 1. Coordinates are kept as
they are, MATLAB's pixels from 1: half a pixel to the right of ours.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.data.formats._files import Catalogue, refuse_images
from stages.data.formats._joints import BOX_NOTE, box_of, flat, outside, size_of
from stages.data.formats._mat import read_mat
from stages.data.records import Box, Record, Rejected, Source

JOINTS = (
    *("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist"),
    *("right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck", "head_top"),
)
EDGES = (
    *((0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (6, 7), (7, 8)),
    *((8, 12), (12, 9), (9, 10), (10, 11), (12, 13), (2, 8), (3, 9)),
)
LABEL = "person"
LSP_IMAGES, LSP_TRAIN = 2000, 1000  # of LSP the first half is for training, the second for testing


def read(root: Path, images: Path | None = None) -> Source:
    """One person an image. ValueError when there is no joints.mat, or not just one, or no image."""
    refuse_images("lsp", images)
    files = Catalogue(root, "images")
    found = [path for path in files.paths if posixpath.basename(path) == "joints.mat"]
    if len(found) != 1:
        told = f"several: {', '.join(found)}; give the folder of one" if found else "none"
        raise ValueError(f"{root}: looked for one joints.mat, found {told}")
    joints, splits = _read_joints(root / found[0])
    numbered = {int(match[1]): path for path in files.images if (match := re.search(r"(\d+)\.\w+$", path))}
    if not numbered:
        raise ValueError(f"no image in {root}: looked for images/im....jpg")
    return Source(
        task="detection",
        classes={LABEL: LABEL},
        records=lambda: _records(files, numbered, joints, splits),
        skeleton=JOINTS,
        skeleton_edges=EDGES,
        notes=(BOX_NOTE,),
    )


def _read_joints(file: Path) -> tuple[NDArray[np.float64], list[str | None]]:
    """x, y, visibility as COCO's [N, 14, 3], and each image's split."""
    joints: Any = read_mat(file, "joints")
    is_plain = joints.ndim == 3 and joints.shape[:2] == (3, 14)
    if (not is_plain and (joints.ndim != 3 or joints.shape[:2] != (14, 3))) or joints.dtype.kind not in "fiu":
        raise ValueError(f"{file}: joints is {joints.dtype} {list(joints.shape)}, not numbers [14, 3, N] or [3, 14, N]")
    placed = np.moveaxis(joints, (0, 1), (2, 1) if is_plain else (1, 2)).astype(np.float64)
    seen = placed[..., 2] > 0
    placed[..., 2] = np.where(seen, 1, 2) if is_plain else np.where(seen, 2, 0)
    placed[~np.isfinite(placed).all(-1)] = 0
    if not is_plain or len(placed) != LSP_IMAGES:
        return placed, [None] * len(placed)
    return placed, ["train" if i < LSP_TRAIN else "test" for i in range(len(placed))]


def _records(
    files: Catalogue, numbered: dict[int, str], joints: NDArray[np.float64], splits: list[str | None]
) -> Iterator[Record | Rejected]:
    missing = [number for number in range(1, len(joints) + 1) if number not in numbered]
    items: list[Record | Rejected] = [Rejected(f"im{n:05d}.jpg", "joints without image") for n in missing]
    items += files.rejected
    items += [Rejected(path, "image without joints") for path in files.images if path not in numbered.values()]
    for number, path in numbered.items():
        if not 1 <= number <= len(joints):
            items.append(Rejected(path, f"image without joints: joints.mat has {len(joints)}"))
            continue
        items.append(_record(files, path, joints[number - 1], splits[number - 1]))
    yield from sorted(items, key=lambda item: item.path)


def _record(files: Catalogue, path: str, joints: NDArray[np.float64], split: str | None) -> Record:
    size_px = size_of(files.root / path)
    xyxy = box_of(joints, size_px)
    defects = outside(joints, size_px, JOINTS) if xyxy else ["no joint is labelled in the image: no person"]
    boxes = (Box(LABEL, xyxy, keypoints=flat(joints)),) if xyxy else ()
    return Record(path, files.blob(path), split, boxes=boxes, size_px=size_px, defects=tuple(defects))
