"""Scripts of this folder in processes that see no module of this repository: there a model brings its own code."""

import os
import sys
from pathlib import Path

from stages.tracking import store
from stages.tracking.process import thread_settings


def command(script: str, *arguments: str) -> list[str]:
    """How to start a script: isolated (-I), so that neither PYTHONPATH nor its own folder is searched."""
    return [sys.executable, "-I", str(Path(__file__).with_name(script)), *arguments]


def environment() -> dict[str, str]:
    """What it needs: where the registry is, and as many threads as evaluate has."""
    from stages.params import document  # pydantic: a fifth of the time that a trace takes

    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    kept |= thread_settings(document.cpu_threads())
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    return kept | quiet | {"MLFLOW_TRACKING_URI": store.tracking_uri()}
