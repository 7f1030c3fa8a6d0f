"""The flows that a worker runs: operations of the command line, as Prefect starts them on a schedule or an event."""

import os
import sys
from uuid import UUID

from prefect import flow, get_client
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.runtime import deployment
from prefect.states import Completed

from flows import project
from flows import retrain as retraining
from flows.project import WorkError
from stages.params import document


@flow(name="retrain", persist_result=False)
def retrain(dataset: str | None = None, revision: str | None = None, task: str | None = None) -> State[None]:
    """Train what a new version of a dataset, a drift, or without either any change calls for; then the gate."""
    _begin("retrain")
    _end_a_series_of_crashes(document.load().retraining.retries)
    told = retraining.retrain(dataset, revision, task)
    create_markdown_artifact(key="visionline-retraining", markdown=retraining.markdown(told))
    why = "; ".join(f"{name}: {reason}" for name, reason in told["why"].items())
    return Completed(message=f"trained {', '.join(told['tasks'])}" if told["tasks"] else f"nothing was due: {why}")


@flow(name="drift", persist_result=False)
def drift(task: str | None = None, inputs: str | None = None) -> State[None]:
    """Look for a drift of what one task, or each that is served, is asked about."""
    _begin("drift")
    from flows import drift as drifting

    found = drifting.look([task] if task else None, inputs)
    create_markdown_artifact(key="visionline-drift", markdown=drifting.markdown(found))
    return Completed(message="; ".join(found.values()) or "nothing is served")


def _begin(flow: str) -> None:
    """Go to the checkout, and let the output go to a file: the worker, which reads it, may die before this run does."""
    project.enter()
    if deployment.get_id() is None:  # called as a function
        return
    log = project.LOCAL_STATE / "logs" / f"{flow}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def _end_a_series_of_crashes(retries: int) -> None:
    """WorkError when the runs before this one all crashed: what starts a crashed run again shall not go on for ever."""
    this = deployment.get_id()
    if this is None:  # called as a function
        return
    with get_client(sync_client=True) as client:
        ended = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                deployment_id=FlowRunFilterDeploymentId(any_=[UUID(str(this))]),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(TERMINAL_STATES))),
            ),
            sort=FlowRunSort.END_TIME_DESC,
            limit=retries + 1,
        )
    if len(ended) > retries and all(run.state_type == StateType.CRASHED for run in ended):
        raise WorkError(f"the last {len(ended)} runs crashed, so this one does nothing: see their logs")


@flow(name="ingest", persist_result=False)
def ingest(name: str, source: str, format: str, split: str | None = None, task: str | None = None) -> State[None]:
    """Take a source into a dataset: a new version, committed and announced."""
    _begin("ingest")
    from flows import ingest as ingestion

    arguments = [source, "--format", format, *(["--split", split] if split else [])]
    done = ingestion.ingest(name, arguments, task, wait_s=ingestion.PATIENCE_S)
    return Completed(message=f"{done['added']} added, {done['relabelled']} relabelled")
