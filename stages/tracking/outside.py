"""Scripts of this folder in processes that see no module of this repository: there a model brings its own code."""

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from stages.params import document
from stages.tracking import store
from stages.tracking.process import thread_settings


def command(script: str, *arguments: str) -> list[str]:
    """How to start a script: isolated (-I), so that neither PYTHONPATH nor its own folder is searched."""
    return [sys.executable, "-I", str(Path(__file__).with_name(script)), *arguments]


def environment() -> dict[str, str]:
    """What it needs: where the registry is, and as many threads as evaluate has."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    kept |= thread_settings(document.cpu_threads())
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    return kept | quiet | {"MLFLOW_TRACKING_URI": store.tracking_uri()}


def become(script: str, *arguments: str) -> NoReturn:
    """Go on as the script, in this very process: whatever signal ends it, nothing is left behind.

    Ctrl-C is ignored until the script takes it up again: a Python that is starting answers it with a traceback.
    """
    settings, words = environment(), command(script, *arguments)
    sys.stdout.flush()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.chdir("/")
    os.execve(words[0], words, settings)  # noqa: S606 - no shell wanted
