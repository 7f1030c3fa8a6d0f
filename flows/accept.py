"""The operation `accept`: keep a stage's outputs though its code changed, because the change is a proven no-op."""

import subprocess
import sys
from pathlib import Path

from flows import graph as graphs
from flows import history
from flows.project import UsageError, WorkError


def accept(stage: str, reason: str) -> None:
    """Note in dvc.lock that a stage's outputs stand for its inputs as they are now, and commit it with the reason."""
    try:
        graph = graphs.read()
    except ValueError as error:
        raise UsageError(str(error)) from None
    if stage not in graph.stages:
        raise UsageError(f"no stage {stage!r}; there are: {', '.join(graph.stages)}")
    found = graph.stages[stage]
    if not found.reasons:
        raise UsageError(f"stage {stage} is fresh: there is nothing to accept")
    gone = [reason for reason in found.reasons if reason.startswith(("models/", "reports/")) and "deleted" in reason]
    if gone:
        raise UsageError(f"stage {stage} has no outputs to accept ({gone[0]}): visionline run")
    command = [sys.executable, "-m", "dvc", "commit", "--force", "--quiet", stage]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WorkError(f"dvc commit {stage}: {' '.join((done.stderr + done.stdout).split())}")
    history.commit_only([Path("dvc.lock")], f"accept {stage}: {reason}")
