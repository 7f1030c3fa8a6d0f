"""Every kind of task as small as it can be, and images with all that any of them asks for."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from stages.data.samples import Encoded
from stages.params.document import task_kinds, task_section
from stages.params.skeleton import Skeleton
from stages.tasks import task as tasks

CLASSES = ("disc", "square")
JOINTS = Skeleton(("left_top", "right_top", "left_bottom", "right_bottom"), ((0, 1), (1, 3), (3, 2), (2, 0)))
TRAINING = {"steps": 1, "precision": "fp32"}
SMALLEST = {
    f"{kind}-{variant}": {"kind": kind, "dataset": "d", "backbone": "b", "training": TRAINING, **keys}
    for kind in task_kinds()
    for variant, keys in YAML(typ="safe").load(Path(__file__).parent / "smallest" / f"{kind}.yaml").items()
}


class Drawn:
    """Four images with one bright square each, but the third, which holds no object."""

    def __len__(self) -> int:
        return 4

    def image(self, index: int) -> Encoded:
        pixels = np.random.default_rng(index).integers(0, 80, (64, 64, 3), dtype=np.uint8)
        if index != 2:
            pixels[16:48, 16:48] = (230, 120, 40) if index % 2 else (40, 120, 230)
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, "PNG")
        return Encoded(f"{index + 1:016x}", data.getvalue(), "RGB", "PNG", 1, 64, 64)

    def value(self, column: str, index: int) -> Any:
        name = CLASSES[index % 2]
        if column == "labels":
            return [name]
        corners = [16, 16, 2, 48, 16, 2, 16, 48, 2, 48, 48, 1]
        drawn = {"label": name, "bbox_xyxy": [16, 16, 48, 48], "is_crowd": False, "keypoints": corners}
        return [] if index == 2 else [drawn]


@pytest.fixture
def drawn() -> Drawn:
    return Drawn()


@pytest.fixture(params=SMALLEST)
def smallest(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """The entry of params.yaml of each variant of each kind."""
    return SMALLEST[request.param]


@pytest.fixture
def task(smallest: Mapping[str, Any]) -> Any:
    """The task of that entry on the classes of the drawn images."""
    return tasks.build(task_section(smallest), CLASSES, JOINTS)
