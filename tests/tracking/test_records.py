"""What MLflow is asked once and remembered until its database changes."""

from pathlib import Path

import pytest

from stages.tracking import records, store

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tracked(mlflow_project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a finished run in an MLflow database of its own."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    run = store.client().create_run(store.experiment_id(), tags={"dvc.out.models/cells": "c.dir"}).info.run_id
    store.client().set_terminated(run, "FINISHED")
    store.client.cache_clear()
    store.experiment_id.cache_clear()
    return mlflow_project


def never(*arguments: object, **options: object) -> None:
    raise AssertionError("MLflow is asked here, or a process is started")


def test_mlflow_is_asked_in_a_process_beside_and_not_again(tracked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with records.asked_beside():
        pass
    with monkeypatch.context() as patch:
        patch.setattr(store, "client", never)
        patch.setattr(records.subprocess, "Popen", never)
        with records.asked_beside():
            (run,) = records.read().runs
    assert run.outs == {"models/cells": "c.dir"}


def test_where_the_process_beside_fails_mlflow_is_asked_here(tracked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records.sys, "executable", "false")
    with records.asked_beside():
        pass
    assert not records.KEPT.exists()
    assert len(records.read().runs) == 1
