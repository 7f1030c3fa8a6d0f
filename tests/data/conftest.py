"""Hand-made rows of an index, without images."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest

from stages.data.index import SCHEMA

BOX = {"is_crowd": False, "difficult": False, "truncated": False, "polygons": [], "rle": None, "keypoints": []}


def box(label, *xyxy):
    return {"label": label, "bbox_xyxy": [float(v) for v in xyxy], **BOX}


def masked(label, pixels=200_000):
    """The columns of a mask with one label; an image has 307,200 pixels."""
    return {"mask_offset": 0, "mask_size": 1, "mask_labels": [label], "mask_pixels": [pixels]}


def rows(task, num=60, classes=("cat", "dog", "emu"), seed=0):
    """Sound samples: 640x480, every third in val and in test, all images far from each other."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(num):
        x, y, width, height = *rng.uniform(0, 300, 2), *rng.uniform(20, 180, 2)
        label = classes[i // 3 % len(classes)]
        made.append(
            dict.fromkeys(SCHEMA.names)
            | {
                "key": hashlib.sha256(f"{seed} {i}".encode()).hexdigest()[:16],
                "sha256": hashlib.sha256(f"image {seed} {i}".encode()).hexdigest(),
                "phash": f"{int(rng.integers(2**64, dtype=np.uint64)):016x}",
                "width": 640,
                "height": 480,
                "split": ("train", "val", "test")[i % 3],
                "labels": [label] if task == "classification" else [],
                "objects": [box(label, x, y, x + width, y + height)] if task == "detection" else None,
                "source": f"images/{i:04d}.jpg",
                "batch": 1,
                "defects": [],
                **(masked(label) if task == "segmentation" else {}),
            }
        )
    return made


def table(made):
    return pa.Table.from_pylist(made, schema=SCHEMA)


@pytest.fixture(scope="session")
def sample_rows():
    """rows(task, num, classes, seed) -> dicts in which a test plants its fault."""
    return rows


@pytest.fixture(scope="session")
def index_table():
    """Rows -> a table of the index's schema."""
    return table


@pytest.fixture(scope="session")
def sample_box():
    """box(label, x1, y1, x2, y2) -> an entry of `objects`."""
    return box
