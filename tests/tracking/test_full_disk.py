"""What is said of a full disk."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from stages.tracking.full_disk import TO_DO, advised
from stages.tracking.process import lines_of


def test_only_a_full_disk_gets_the_advice_and_only_once() -> None:
    assert advised("no such file: a") == "no such file: a"
    told = advised("dvc add: [Errno 28] No space left on device: 'data/x'")
    assert told.endswith(f"; free some space, {TO_DO}")
    assert advised(f"stage failed: {told}") == f"stage failed: {told}"


def test_the_disk_that_is_full_is_named(disk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = disk(tmp_path / ".visionline", 2)
    assert advised("disk I/O error") == "disk I/O error"  # which may mean anything
    state.fill()
    assert advised("disk I/O error") == f"disk I/O error; free some space on the disk of {state.folder}, {TO_DO}"
    with sqlite3.connect(state.folder / "a.db") as database, pytest.raises(sqlite3.OperationalError) as raised:
        database.execute("CREATE TABLE a (b)")
    assert f"on the disk of {state.folder}" in advised(str(raised.value))


def test_an_error_of_mlflow_is_one_line_without_its_statement() -> None:
    from mlflow.exceptions import MlflowException

    reason = "(sqlite3.OperationalError) database or disk is full"
    (line,) = lines_of(MlflowException(f"(hints first)\n{reason}\n[SQL: INSERT INTO runs]\n[parameters: ()]"))
    assert line == f"MLflow: {reason}; free some space, {TO_DO}"
    assert lines_of(MlflowException("no such\nrun")) == ["MLflow: no such run"]
    assert lines_of(KeyError("a bug")) == []
