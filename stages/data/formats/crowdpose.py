"""CrowdPose (Li et al. 2019): COCO's form with 14 joints; its files hold the bones of COCO's 17, which do not fit."""

from dataclasses import replace
from pathlib import Path

from stages.data.formats import coco
from stages.data.records import Source

JOINTS = (
    *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip"),
    *("right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "head", "neck"),
)
EDGES = (
    *((10, 8), (8, 6), (11, 9), (9, 7), (6, 7), (0, 6), (1, 7)),
    *((0, 2), (1, 3), (2, 4), (3, 5), (12, 13), (0, 13), (1, 13)),
)


def read(root: Path, images: Path | None = None) -> Source:
    """As format coco; ValueError when the joints are not CrowdPose's 14.

    The crowd index of an image is not kept: it follows from the persons (stages.metrics.joints.crowd_index).
    """
    source = coco.read(root, images)
    if source.skeleton != JOINTS:
        raise ValueError(f"{root}: joints {source.skeleton} are not CrowdPose's {JOINTS}: use --format coco")
    notes = [note for note in source.notes if "edges of the skeleton" not in note]
    said = "the bones in CrowdPose's files are those of COCO's 17 joints: its own 14 joints are joined instead"
    return replace(source, skeleton_edges=EDGES, notes=(*notes, said))
