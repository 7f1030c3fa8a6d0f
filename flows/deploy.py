"""The operation `deploy`: flows, schedules, triggers and watchdogs onto a Prefect server."""

import os
import shlex
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import available_timezones

from prefect import get_client
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.events import DeploymentEventTrigger, EventTrigger, ResourceSpecification
from prefect.events.actions import ChangeFlowRunState, RunDeployment, SendNotification
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.flows import flow as prefect_flow
from prefect.schedules import Cron, Schedule
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import drift, ingest, services, stack
from flows.project import UsageError
from stages.params import document
from stages.params.retraining import RetrainingParams

NOTIFY = "VISIONLINE_NOTIFY_URL"  # not a parameter: such addresses are secrets
TAG = "visionline"
ENDED = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}
HEARTBEAT = "prefect.flow-run.heartbeat"


def deploy(notify_block: str | None) -> dict[str, Any]:
    """Register all of it; names of what is there now. UsageError without a server, or when params.yaml can't be met."""
    address = services.prefect_api()
    if address is None:
        raise UsageError("no Prefect server: start one with visionline up, or set PREFECT_API_URL")
    try:
        params = document.load().retraining
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from None
    # Prefect read the environment when it was imported; without an address it would start a server of its own.
    with temporary_settings({PREFECT_API_URL: address}):
        automations = _register(params, notify_block)
    return {
        "server": address,
        "work pool": stack.POOL,
        "deployments": [f"{flow}/{TAG}" for flow in ("retrain", "ingest", "drift")],
        "cron": params.cron,
        "on data": params.on_data,
        "on drift": params.drift.retrain,
        "automations": automations,
    }


def _register(params: RetrainingParams, notify_block: str | None) -> list[str]:
    """Pool, deployments and automations; returns the names of the latter."""
    _pool(params.at_once)
    retrain = _deployment("retrain", params, _schedules(params.cron, params), _triggers(params))
    _deployment("ingest", params, [], [])
    _deployment("drift", params, _schedules(params.drift.cron, params), [])
    block = _block(notify_block)
    automations = [_crashed(params), _again(params, retrain), *([_notified(block)] if block else [])]
    for automation in automations:
        _put(automation)
    return [automation.name for automation in automations]


def _pool(at_once: int) -> None:
    """The work pool, whose limit is the number of runs (GPUs) at once."""
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(stack.POOL)
            client.update_work_pool(stack.POOL, WorkPoolUpdate(concurrency_limit=at_once))
        except ObjectNotFound:
            client.create_work_pool(WorkPoolCreate(name=stack.POOL, type="process", concurrency_limit=at_once))


def _deployment(name: str, params: RetrainingParams, schedules: list[Schedule], triggers: list[Any]) -> UUID:
    """A flow of flows/scheduled.py, run in this checkout; runs of one deployment come one after the other."""
    found: Any = prefect_flow.from_source(source=str(Path.cwd()), entrypoint=f"flows/scheduled.py:{name}")
    heartbeat = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(params.heartbeat_s)}
    deployment = found.to_deployment(
        name=TAG,
        work_pool_name=stack.POOL,
        schedules=schedules,
        triggers=triggers,
        concurrency_limit=ConcurrencyLimitConfig(limit=1),
        # Without a command of ours Prefect starts another process before it, only to look where the flow lies.
        job_variables={"env": heartbeat, "command": shlex.join([sys.executable, "-m", "prefect.engine"])},
        tags=[TAG],
    )
    made: UUID = deployment.apply()
    return made


def _schedules(cron: str | None, params: RetrainingParams) -> list[Schedule]:
    if cron is None:
        return []
    if params.timezone not in available_timezones():
        raise UsageError(f"retraining.timezone: {params.timezone!r} is no time zone, such as Europe/Berlin")
    try:
        return [Cron(cron, timezone=params.timezone)]
    except ValueError as error:
        raise UsageError(f"retraining: cron {cron!r}: {' '.join(str(error).split())}") from None


def _triggers(params: RetrainingParams) -> list[DeploymentEventTrigger]:
    version = DeploymentEventTrigger(
        name="visionline: a new dataset version is trained on",
        expect={ingest.EVENT},
        parameters={"dataset": "{{ event.payload.dataset }}", "revision": "{{ event.payload.revision }}"},
    )
    drifted = DeploymentEventTrigger(
        name="visionline: after a drift any new label is trained on",
        expect={drift.EVENT},
        parameters={"task": "{{ event.payload.task }}"},
    )
    return [*([version] if params.on_data else []), *([drifted] if params.drift.retrain else [])]


def _of_flows(*names: str) -> ResourceSpecification:
    return ResourceSpecification({"prefect.resource.role": "flow", "prefect.resource.name": list(names)})


def _crashed(params: RetrainingParams) -> AutomationCore:
    """Prefect itself leaves a run whose machine died Running for ever, and its slot taken (prefect#16746)."""
    return AutomationCore(
        name="visionline: a run without heartbeat has crashed",
        trigger=EventTrigger(
            after={HEARTBEAT},
            expect={HEARTBEAT, *ENDED},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            match_related=_of_flows("retrain", "ingest", "drift", "pipeline"),
            for_each={"prefect.resource.id"},
            posture="Proactive",
            threshold=1,
            within=timedelta(seconds=3 * params.heartbeat_s),
        ),
        actions=[ChangeFlowRunState(state="CRASHED", message="no heartbeat: its process or machine is gone")],
    )


def _again(params: RetrainingParams, retrain: UUID) -> AutomationCore:
    """A crash tells nothing of the data: the work is still due. flows/scheduled.py sees to it that this ends."""
    return AutomationCore(
        name="visionline: a crashed retraining starts again",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Crashed"},
            match_related=_of_flows("retrain"),
            posture="Reactive",
            threshold=1,
            within=timedelta(0),
        ),
        actions=[
            RunDeployment(
                source="selected",
                deployment_id=retrain,
                parameters={"task": "{{ flow_run.parameters.task | default(none) }}"},
                schedule_after=timedelta(seconds=params.retry_delay_s),
            )
        ],
    )


def _notified(block: UUID) -> AutomationCore:
    return AutomationCore(
        name="visionline: a failure is told",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
            match_related=_of_flows("retrain", "ingest"),
            posture="Reactive",
            threshold=1,
            within=timedelta(0),
        ),
        actions=[
            SendNotification(
                block_document_id=block,
                subject="visionline: {{ flow.name }} {{ flow_run.state.name }}",
                body="{{ flow_run.name }}: {{ flow_run.state.message }}\n{{ flow_run|ui_url }}",
            )
        ],
    )


def _put(automation: AutomationCore) -> None:
    """Create an automation, or make the one of this name like it."""
    with get_client(sync_client=True) as client:
        there = client.read_automations_by_name(automation.name)
        if there:
            client.update_automation(there[0].id, automation)
        else:
            client.create_automation(automation)


def _block(named: str | None) -> UUID | None:
    """Where failures are told: a block that is there (TYPE/NAME), or a webhook whose address is in the environment."""
    url = os.environ.get(NOTIFY)
    if named:
        kind, _, name = named.partition("/")
        with get_client(sync_client=True) as client:
            try:
                return client.read_block_document_by_name(name, kind).id
            except ObjectNotFound:
                raise UsageError(f"--notify-block {named}: the server has no such block (TYPE/NAME)") from None
    if not url:
        return None
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"{NOTIFY} must begin with http:// or https://; for others make a block: --notify-block")
    block: Any = CustomWebhookNotificationBlock(
        name="visionline",
        url="{{url}}",
        json_data={"subject": "{{subject}}", "text": "{{body}}"},
        secrets={"url": url},
    )
    saved: UUID = block.save("visionline", overwrite=True)
    return saved
