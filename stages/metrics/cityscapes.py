"""Cityscapes' numbers of its classes, for the result files that its own script scores.

Source: github.com/mcordts/cityscapesScripts, helpers/labels.py (Cordts et al. 2016, table of the 19 evaluated classes).
"""

import posixpath
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Name -> label id of the classes that are evaluated, in the order of their train ids 0 to 18.
LABEL_IDS = {
    "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic light": 19,
    "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26, "truck": 27,
    "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33,
}  # fmt: skip
UNLABELLED = 0


def are_classes(names: Sequence[str]) -> bool:
    """Whether these are classes of Cityscapes and no others."""
    return set(names) == set(LABEL_IDS)


def label_ids(classes: NDArray[np.uint8], names: Sequence[str]) -> NDArray[np.uint8]:
    """Class indices [H, W] as label ids; UNLABELLED where there is no class."""
    ids = np.full(256, UNLABELLED, np.uint8)
    ids[: len(names)] = [LABEL_IDS[name] for name in names]
    return ids[classes]


def result_name(source: str) -> str:
    """The result file of an image: the script finds it by CITY_SEQUENCE_FRAME, with which its name begins."""
    stem = posixpath.splitext(posixpath.basename(source))[0]
    return f"{stem.removesuffix('_leftImg8bit')}_pred_labelIds.png"
