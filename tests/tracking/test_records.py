"""What MLflow is asked once and remembered until its database changes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.tracking import records, store

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tracked(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with a finished run in an MLflow database of its own."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    forget_the_store()
    run = store.client().create_run(store.experiment_id(), tags={"dvc.out.models/cells": "c.dir"}).info.run_id
    store.client().set_terminated(run, "FINISHED")
    forget_the_store()
    yield project
    forget_the_store()


def forget_the_store() -> None:
    store.client.cache_clear()
    store.experiment_id.cache_clear()


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
