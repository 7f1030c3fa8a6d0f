"""Where MLflow keeps its runs: an address that is given, or a database in the repository."""

import logging
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from stages.tracking.process import LOCAL_STATE, locked

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "visionline"


@cache
def repository_root() -> Path:
    """The folder of the git checkout that the working directory lies in, else the working directory."""
    answer = subprocess.run(["git", "rev-parse", "--show-toplevel"], capture_output=True, text=True, check=False)
    return Path(answer.stdout.strip()) if answer.returncode == 0 else Path.cwd()


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or the SQLite database under .visionline/ of the git root."""
    local = repository_root().resolve() / LOCAL_STATE / "mlflow.db"
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{local}"


def state() -> str | None:
    """What changes whenever something is written to the database; None where a server keeps it, which must be asked."""
    uri = tracking_uri()
    if not uri.startswith("sqlite:///"):
        return None
    files = [Path(uri.removeprefix("sqlite:///") + suffix) for suffix in ("", "-wal")]
    facts = [(f.stat().st_ino, f.stat().st_size, f.stat().st_mtime_ns) if f.exists() else None for f in files]
    return f"{uri} {os.environ.get('MLFLOW_EXPERIMENT_NAME', EXPERIMENT)} {facts}"


@cache
def client() -> "MlflowClient":
    """The MLflow client; the database is made by one process while others wait (it can't migrate itself twice)."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow

    # It would show the traceback of an error that it then raises, such as that of a full disk.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    uri = tracking_uri()
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    with locked("mlflow-store", wait_s=120):
        opened = mlflow.MlflowClient(uri)
        opened.search_experiments(max_results=1)
    return opened


@cache
def experiment_id() -> str:
    """The experiment of this project, made when it is not there."""
    name, store = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT), client()
    with locked("mlflow-experiment", wait_s=120):
        there = store.get_experiment_by_name(name)
        if there is not None:
            return there.experiment_id
        folder = (repository_root().resolve() / LOCAL_STATE / "mlartifacts").as_uri()
        is_local = tracking_uri().startswith("sqlite:")
        return store.create_experiment(name, artifact_location=folder if is_local else None)
