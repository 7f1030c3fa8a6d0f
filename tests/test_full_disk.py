"""Every writer on a full disk: an error that names the file, the former content still there, and nothing else."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.data.lookup import Lookup
from stages.data.shards import replace_file
from stages.export import _opened_coco
from stages.models import folder as models
from stages.models.weights import save_weights
from stages.params.files import write_atomically
from stages.tasks import evaluation
from stages.training.checkpoint import Checkpoint

BIG = 2**19  # numbers, of four bytes: more than the disk holds


class Drawn:
    """An evaluation whose results need much space; there are no pictures."""

    task: Any

    def __init__(self, size: int) -> None:
        self.task, self.size = self, size

    def write_results(self, evaluation: Any, folder: Path) -> None:
        (folder / "predictions.csv").write_bytes(bytes(4 * self.size))

    def report(self) -> dict[str, Any]:
        return {"findings": []}


def coco(folder: Path, size: int) -> None:
    box = {"box_xyxy": [0, 0, 1, 1], "label": "cat", "score": 0.5}
    with _opened_coco(str(folder / "found.json"), ["cat"], None) as file:
        for number in range(size // 32):
            file.add(str(number), 8, 8, {"boxes": [box]})


def arrays(folder: Path, size: int) -> None:
    lookup = object.__new__(Lookup)
    lookup.folder = folder
    lookup._write_arrays("stamp", [(np.zeros(size, np.uint64), np.zeros(size, np.uint64))])


def results(folder: Path, size: int) -> None:
    evaluation.write(Drawn(size), folder / "cells.json", folder / "cells")


# Takes a folder and a size.
WRITERS: dict[str, Callable[[Path, int], object]] = {
    "a small file": lambda folder, size: write_atomically(folder / "file", bytes(4 * size)),
    "dataset.yaml": lambda folder, size: replace_file(folder / "dataset.yaml", bytes(4 * size)),
    "a checkpoint": lambda folder, size: Checkpoint(folder).save({"step": size, "w": torch.zeros(size)}),
    "weights": lambda folder, size: save_weights(torch.nn.Linear(size // 8, 8), folder / "weights.safetensors"),
    "a model": lambda folder, size: models.write(folder / "cells", torch.nn.Linear(size // 8, 8), {}, []),
    "a model's history": lambda folder, size: models.write(folder / "cells", None, {}, [0.5] * size),
    "results of evaluate": results,
    "boxes for other tools": coco,
    "arrays of trace": arrays,
}


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "draw", lambda evaluation, target: None)


def contents(disk: Any) -> dict[str, bytes]:
    return {name: (disk.folder / name).read_bytes() for name in disk.files()}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("leave_bytes", [0, 4096, 100_000])
def test_on_a_full_disk_the_former_file_stays_and_no_part_of_the_new(
    disk: Any, tmp_path: Path, writer: str, leave_bytes: int
) -> None:
    small, write = disk(tmp_path / "small", 1), WRITERS[writer]
    write(small.folder, 64)
    before = contents(small)
    assert before
    small.fill(leave_bytes)
    with pytest.raises(OSError, match="No space left on device") as raised:
        write(small.folder, BIG)
    assert raised.value.errno == errno.ENOSPC
    assert Path(raised.value.filename).is_relative_to(small.folder)
    assert contents(small) == before
    small.free()
    write(small.folder, 96)
    assert contents(small) != before


def test_an_error_without_a_full_disk_is_left_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        models.write(tmp_path / "cells", None, {"no": object()}, [])
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "nowhere" / "file", b"")
    assert list(tmp_path.iterdir()) == []
    write_atomically(tmp_path / "file", json.dumps({}).encode())
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
