"""The local services: Prefect, MLflow, a worker and the Data Docs as plain processes with pid files."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from flows import server
from flows.project import LOCAL_STATE, UsageError, WorkError
from stages.params import document
from stages.params.files import write_atomically
from stages.tracking import store
from stages.tracking.process import is_alive, locked, start_mark

FOLDER = LOCAL_STATE / "services"
DATA_DOCS = LOCAL_STATE / "data-docs"
POOL = "visionline"
ALL = ("mlflow", "prefect", "worker", "data-docs")
PAGES = ("mlflow", "prefect", "data-docs")  # what a person looks at
HEALTH = {"prefect": "/api/health", "mlflow": "/health", "data-docs": "/", "worker": "/health"}
GIVEN = {"mlflow": "MLFLOW_TRACKING_URI", "prefect": "PREFECT_API_URL"}  # servers that are somewhere already
END_S = 20.0
ANSWER_S = 30.0  # how long a service that lives may be silent


def start(names: Sequence[str] = PAGES, ports: Mapping[str, int] | None = None) -> dict[str, str]:
    """Name -> address of each service; those that do not run are started, and stay when this process ends.

    UsageError when a port that was asked for is taken; WorkError when a service does not become healthy.
    """
    asked = ports or {}
    with locked("services", wait_s=server.START_TIMEOUT_S):
        for name in names:
            port = asked.get(name, 0)
            if port and not (running(name) or _given(name)) and not _is_free(port):
                raise UsageError(f"port {port} of {name} is taken: choose another with --{name}-port, or 0 for any")
        return {name: _healthy(name) or _given(name) or _start(name, asked.get(name, 0)) for name in names}


def running(name: str) -> str | None:
    """The address of a service that was started here and lives, else None."""
    told = _told(name)
    return told["address"] if told and is_alive(told["pid"], told["started"]) else None


def _healthy(name: str) -> str | None:
    """The address of a service of ours that answers; None when there is none, or when it ends instead."""
    deadline = time.monotonic() + ANSWER_S
    while address := running(name):
        if server.answers(address + HEALTH[name]):
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


def _given(name: str) -> str | None:
    address = os.environ.get(GIVEN.get(name, ""), "")
    return address.removesuffix("/api") if address.startswith("http") else None


def _start(name: str, port: int) -> str:
    _end_rest(name)
    port = port or _last_port(name) or server.free_port()
    address, log = f"http://127.0.0.1:{port}", LOCAL_STATE / "logs" / f"{name}.log"
    if name == "prefect":
        process = server.start_server(port, log, is_bound_to_us=False)
    else:
        commands = {"mlflow": _mlflow, "data-docs": _data_docs, "worker": _worker}
        process = _detached(commands[name](port), log, _settings(name, port))
    server.wait_until_healthy(address + HEALTH[name], process, log)
    told = {"pid": process.pid, "started": start_mark(process.pid), "address": address}
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_atomically(FOLDER / f"{name}.json", json.dumps(told).encode())
    return address


def _last_port(name: str) -> int | None:
    """The port that a service had before it died: whoever still asks there finds it again."""
    told = _told(name)
    port = int(told["address"].rpartition(":")[2]) if told else 0
    return port if port and _is_free(port) else None


def _mlflow(port: int) -> list[str]:
    store.client()  # makes the database, once
    options = ["--backend-store-uri", store.tracking_uri(), "--host", "127.0.0.1", "--port", str(port)]
    return ["mlflow", "server", *options, "--workers", "1"]


def _data_docs(port: int) -> list[str]:
    DATA_DOCS.mkdir(parents=True, exist_ok=True)
    return ["http.server", str(port), "--bind", "127.0.0.1", "-d", str(DATA_DOCS)]


def _worker(port: int) -> list[str]:
    return ["prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", "local", "--with-healthcheck"]


def _settings(name: str, port: int) -> dict[str, str]:
    """The environment of a service beyond ours."""
    if name != "worker":
        return {}
    api = prefect_api()
    if api is None:
        raise UsageError("a worker needs a Prefect server: visionline up starts one, or set PREFECT_API_URL")
    return {
        "PREFECT_API_URL": api,
        "PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1",
        "PREFECT_WORKER_WEBSERVER_PORT": str(port),
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(document.load().retraining.heartbeat_s),
    }


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _detached(module: list[str], log: Path, settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", *module],
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
