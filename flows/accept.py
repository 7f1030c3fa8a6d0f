"""The operation `accept`: keep outputs of stages though their code changed, because the change is a proven no-op."""

from collections.abc import Sequence
from pathlib import Path

from flows import graph as graphs
from flows import history
from flows.project import UsageError, dvc
from stages.tracking.process import locked

# What DVC says when the code of a stage changed; outputs that came of other data, models or parameters never stand.
OF_CODE = ("stages/", "changed ")


def accept(stages: Sequence[str], reason: str) -> None:
    """Note in dvc.lock that outputs of stages stand for the code as it is now, and commit it with the reason.

    UsageError, and nothing is noted, when one of the stages is unknown, fresh or stale for more than its code.
    """
    with locked("run", wait_s=0.0):
        try:
            graph = graphs.read()
        except ValueError as error:
            raise UsageError(str(error)) from None
        for name in stages:
            _check(graph, name)
        dvc("commit", "--force", "--quiet", *stages)
        history.commit_only([Path("dvc.lock")], f"accept {', '.join(stages)}: {reason}")


def _check(graph: graphs.Graph, name: str) -> None:
    if name not in graph.stages:
        raise UsageError(f"no stage {name!r}; there are: {', '.join(graph.stages)}")
    reasons = graph.stages[name].reasons
    if not reasons:
        waits = [needed for needed in graph.stages[name].needs if needed in graph.stale()]
        state = f"only waits for {', '.join(waits)}" if waits else "is fresh"
        raise UsageError(f"stage {name} {state}: there is nothing to accept")
    others = [told for told in reasons if not told.startswith(OF_CODE)]
    if others:
        raise UsageError(f"stage {name} is stale for more than its code ({others[0]}): visionline run")
