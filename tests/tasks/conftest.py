"""Every kind of task as small as it can be, and images with all that any of them asks for."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from ruamel.yaml import YAML

from stages.data.samples import Encoded
from stages.params.adaptation import MODES
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
        if column.startswith("mask_"):
            return {"mask_labels": [name], "mask_pixels": [32 * 32]}[column] if index != 2 else None
        if column == "labels":
            return [name]
        corners = [16.0, 16, 48, 16, 48, 48, 16, 48]
        joints = [16, 16, 2, 48, 16, 2, 16, 48, 2, 48, 48, 1]
        thing = {"label": name, "bbox_xyxy": [16, 16, 48, 48], "is_crowd": False, "polygons": [corners], "rle": None}
        return [] if index == 2 else [thing | {"keypoints": joints}]

    def mask(self, index: int, classes: Sequence[str]) -> NDArray[np.uint8] | None:
        """The square's class, and the other one around it; nothing is known of the image without object."""
        if index == 2:
            return None
        numbers = np.full((64, 64), 1 - index % 2, np.uint8)
        numbers[16:48, 16:48] = index % 2
        numbers[:2] = 255
        return numbers


@pytest.fixture
def drawn() -> Drawn:
    return Drawn()


@pytest.fixture
def smallest(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """The entry of params.yaml of each variant of each kind."""
    return SMALLEST[request.param]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each variant for a test of tasks; where it asks for a `mode`, too, all of them for a kind's first variant.

    Of a slow test only the first variants run in `make test`.
    """
    first = {entry["kind"]: name for name, entry in reversed(SMALLEST.items())}.values()
    if "mode" in metafunc.fixturenames:
        cases = [(name, mode) for name in SMALLEST for mode in (MODES if name in first else ("last_k",))]
        metafunc.parametrize(("smallest", "mode"), cases, indirect=["smallest"])
    elif "smallest" in metafunc.fixturenames:
        is_slow = metafunc.definition.get_closest_marker("slow") is not None
        marks = {name: [pytest.mark.long] if is_slow and name not in first else [] for name in SMALLEST}
        metafunc.parametrize("smallest", [pytest.param(name, marks=marks[name]) for name in SMALLEST], indirect=True)


@pytest.fixture
def task(smallest: Mapping[str, Any]) -> Any:
    """The task of that entry on the classes of the drawn images."""
    return tasks.build(task_section(smallest), CLASSES, JOINTS)
