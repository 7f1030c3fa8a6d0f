"""Which datasets a run asks for before it starts."""

from pathlib import Path

import pytest

from flows import run
from flows.project import UsageError
from stages.params import document

ROOT = Path(__file__).parents[2]


def test_one_task_needs_its_own_data_and_its_backbones_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = document.load(ROOT / "recipes/every-task.yaml")
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/camvid.dvc").touch()
    with pytest.raises(UsageError, match="dataset tiny-imagenet has no data yet: visionline ingest tiny-imagenet"):
        run._check_data(params, ["streets"])
    Path("data/tiny-imagenet.dvc").touch()
    run._check_data(params, ["streets"])
    for only in ([], ["streets", "cells-yolo"]):
        with pytest.raises(UsageError, match="dataset bccd has no data yet"):
            run._check_data(params, only)
