"""The repository that a command works in, and the environment that its processes get."""

import os
import subprocess
import sys
from pathlib import Path

LOCAL_STATE = Path(".visionline")
NOT_CACHED = "failed to transfer"  # what DVC says, and then ends well, when it can't write to its cache


class UsageError(ValueError):
    """The command can't work on what it was given: exit code 2."""


class WorkError(RuntimeError):
    """The command was right but the work went wrong: exit code 1."""


def enter() -> Path:
    """Go to the root of the git checkout, which every path is relative to; UsageError outside of one."""
    answer = subprocess.run(["git", "rev-parse", "--show-toplevel"], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise UsageError(
            f"{Path.cwd()} is not in a git repository, where versions are kept: clone visionline or git init"
        )
    root = Path(answer.stdout.strip())
    if not (root / "dvc.yaml").is_file():
        raise UsageError(f"{root} holds no dvc.yaml: run visionline in a clone of its repository")
    os.chdir(root)
    os.environ.update(environment(root))
    LOCAL_STATE.mkdir(exist_ok=True)
    return root


def dvc(*arguments: str, folder: Path | None = None) -> None:
    """A command of DVC, in this folder or another; WorkError with DVC's reason, in a line, when it fails."""
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    told = [dvc_reason(line) for line in (done.stderr + done.stdout).splitlines()]
    lost = [line for line in told if line.startswith(NOT_CACHED)][:1]
    if done.returncode or lost:
        raise WorkError(f"dvc {' '.join(arguments)}: {' '.join(filter(None, lost or told))}")


def dvc_reason(line: str) -> str:
    """What a line of DVC's says of an error, without its ornaments."""
    words = " ".join(line.split()).removeprefix("ERROR: ").removeprefix("unexpected error - ")
    return "" if words.startswith("Having any troubles?") else words


def environment(root: Path) -> dict[str, str]:
    """Settings of every process: local state under .visionline/, no telemetry, the same Python in DVC's commands."""
    defaults = {
        "PREFECT_HOME": str(root / LOCAL_STATE / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # what fails is told in a line; its page has the rest
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # about 15 s until a server that is not there is told
        "GX_ANALYTICS_ENABLED": "false",
        "DVC_NO_ANALYTICS": "true",
        "GIT_PYTHON_REFRESH": "quiet",
        "MPLCONFIGDIR": str(root / LOCAL_STATE / "matplotlib"),
    }
    here = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", "")
    fixed = {"PATH": path if path.startswith(here) else f"{here}{os.pathsep}{path}", "PYTHONUNBUFFERED": "1"}
    return {key: os.environ.get(key, value) for key, value in defaults.items()} | fixed
