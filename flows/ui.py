"""The operation `ui`: the pages of MLflow, Prefect and the Data Docs, on loopback; starts those that do not run."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from flows import server
from flows.project import LOCAL_STATE
from stages.params.edit import write_atomically
from stages.tracking import store
from stages.tracking.process import is_alive, start_mark

SERVICES = LOCAL_STATE / "services"
DATA_DOCS = LOCAL_STATE / "data-docs"


def start(names: tuple[str, ...] = ("mlflow", "prefect", "data-docs")) -> dict[str, str]:
    """Name -> address of each service; those that are not running are started and stay when this process ends."""
    return {name: running(name) or _start(name) for name in names}


def running(name: str) -> str | None:
    """The address of a service that was started here and lives, else None."""
    file = SERVICES / f"{name}.json"
    if not file.is_file():
        return None
    told = json.loads(file.read_text(encoding="utf8"))
    return told["address"] if is_alive(told["pid"], told["started"]) else None


def stop() -> list[str]:
    """End the services that were started here; returns their names."""
    ended = []
    for file in sorted(SERVICES.glob("*.json")):
        told = json.loads(file.read_text(encoding="utf8"))
        if is_alive(told["pid"], told["started"]):
            os.killpg(told["pid"], signal.SIGTERM)
            ended.append(file.stem)
        file.unlink()
    return ended


def _start(name: str) -> str:
    given = {"mlflow": os.environ.get("MLFLOW_TRACKING_URI"), "prefect": os.environ.get("PREFECT_API_URL")}.get(name)
    if given and given.startswith("http"):
        return given.removesuffix("/api")
    port = server.free_port()
    address, log = f"http://127.0.0.1:{port}", LOCAL_STATE / "logs" / f"{name}.log"
    starters: dict[str, Callable[[], subprocess.Popen[bytes]]] = {
        "mlflow": lambda: _detached(["mlflow", "server", *_mlflow_options(port)], log),
        "prefect": lambda: server.start_server(port, log, is_bound_to_us=False),
        "data-docs": lambda: _detached(["http.server", str(port), "--bind", "127.0.0.1", "-d", str(_docs())], log),
    }
    process = starters[name]()
    health = {"prefect": "/api/health", "mlflow": "/health", "data-docs": "/"}[name]
    server.wait_until_healthy(address + health, process, log)
    SERVICES.mkdir(parents=True, exist_ok=True)
    told = {"pid": process.pid, "started": start_mark(process.pid), "address": address}
    write_atomically(SERVICES / f"{name}.json", json.dumps(told).encode())
    return address


def _mlflow_options(port: int) -> list[str]:
    store.client()  # makes the database, once
    return ["--backend-store-uri", store.tracking_uri(), "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]


def _docs() -> Path:
    DATA_DOCS.mkdir(parents=True, exist_ok=True)
    return DATA_DOCS


def _detached(module: list[str], log: Path) -> subprocess.Popen[bytes]:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", *module],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
