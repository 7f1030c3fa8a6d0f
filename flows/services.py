"""The local services: Prefect, MLflow, a worker and the Data Docs as plain processes with pid files."""

import json
import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from flows import server, stack
from flows.project import LOCAL_STATE, UsageError, WorkError
from stages.params.files import write_atomically
from stages.tracking.process import is_alive, locked, start_mark

FOLDER = LOCAL_STATE / "services"
END_S = 20.0
ANSWER_S = 30.0  # how long a service that lives may be silent


def start(names: Sequence[str] = stack.PAGES, ports: Mapping[str, int] | None = None) -> dict[str, str]:
    """Name -> address of each service; those that do not run are started, and stay when this process ends.

    UsageError when a port that was asked for is taken; WorkError when a service does not become healthy.
    """
    with locked("services", wait_s=server.START_TIMEOUT_S):
        there = {name: stack.served_elsewhere(name) or _healthy(name) for name in names}
        asked = {name: stack.port_of_address(name) or (ports or {}).get(name, 0) for name in names if not there[name]}
        for name, port in asked.items():
            if port and not _is_free(port):
                raise UsageError(f"port {port} of {name} is taken: choose another with --{name}-port, or 0 for any")
        return {name: address or _start(name, asked[name]) for name, address in there.items()}


def running(name: str) -> str | None:
    """The address of a service that was started here and lives, else None."""
    told = _told(name)
    return told["address"] if told and is_alive(told["pid"], told["started"]) else None


def _healthy(name: str) -> str | None:
    """The address of a service of ours that answers; None when there is none, or when it ends instead."""
    deadline = time.monotonic() + ANSWER_S
    while address := running(name):
        if server.answers(address + stack.HEALTH[name]):
            return address
        if time.monotonic() > deadline:
            raise WorkError(f"{name} at {address} runs but does not answer: end it with visionline down")
        time.sleep(0.2)
    return None


def prefect_api() -> str | None:
    """The address of the Prefect API: of the environment, or of the local service; None when there is neither."""
    local = running("prefect")
    return os.environ.get("PREFECT_API_URL") or (f"{local}/api" if local else None)


def announce(event: str, resource: str, payload: Mapping[str, Any]) -> None:
    """Send an event to the Prefect server, if there is one, before this returns."""
    address = prefect_api()
    if address is None:
        return
    os.environ["PREFECT_API_URL"] = address
    import logging

    from prefect.events import emit_event
    from prefect.events.worker import EventsWorker

    logging.getLogger("EventsWorker").setLevel(logging.ERROR)  # it warns of what it is about to send
    emit_event(event, resource={"prefect.resource.id": resource}, payload=dict(payload))
    EventsWorker.instance().drain()


def stop() -> list[str]:
    """End the services that were started here, and nothing else, worker first; returns their names."""
    files = sorted(FOLDER.glob("*.json"), key=lambda file: (file.stem != "worker", file.stem))
    ended = []
    for file in files:
        told = _told(file.stem)
        if told and is_alive(told["pid"], told["started"]):
            _end(told["pid"], told["started"])
            ended.append(file.stem)
        _end_rest(file.stem)
        file.unlink(missing_ok=True)
    return ended


def _told(name: str) -> dict[str, Any] | None:
    file = FOLDER / f"{name}.json"
    return json.loads(file.read_text(encoding="utf8")) if file.is_file() else None


def _end(pid: int, started: str) -> None:
    """Ask a service and what it started to end, and see to it."""
    os.killpg(pid, signal.SIGTERM)
    deadline = time.monotonic() + END_S
    while is_alive(pid, started) and time.monotonic() < deadline:
        time.sleep(0.1)
    if is_alive(pid, started):
        os.killpg(pid, signal.SIGKILL)


def _end_rest(name: str) -> None:
    """End what a service that was killed had started: those of its process group that work in this checkout."""
    import psutil

    told = _told(name)
    if not told or start_mark(told["pid"]):
        return
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == told["pid"] and process.cwd() == str(Path.cwd()):
                process.kill()


def _start(name: str, port: int) -> str:
    _end_rest(name)
    port = port or _last_port(name) or server.free_port()
    log = LOCAL_STATE / "logs" / f"{name}.log"
    stack.prepare(name)
    process = server.start(stack.command(name, port), stack.settings(name, port, prefect_api()), log)
    address = stack.address(port)
    server.wait_until_healthy(address + stack.HEALTH[name], process, log)
    if name == stack.S3:
        server.make_bucket(address, stack.BUCKET)
    told = {"pid": process.pid, "started": start_mark(process.pid), "address": address}
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_atomically(FOLDER / f"{name}.json", json.dumps(told).encode())
    return address


def _last_port(name: str) -> int | None:
    """The port that a service had before it died: whoever still asks there finds it again."""
    told = _told(name)
    port = int(told["address"].rpartition(":")[2]) if told else 0
    return port if port and _is_free(port) else None


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
