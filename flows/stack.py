"""What each service of this machine is started with: commands, and settings that Prefect and MLflow name themselves.

An address alone in the environment (MLFLOW_TRACKING_URI, PREFECT_API_URL): somebody serves it, and it is left alone.
With a database too (MLFLOW_BACKEND_STORE_URI, PREFECT_SERVER_DATABASE_CONNECTION_URL) it is served here.
Databases and passwords stay in the environment: a command line can be read by everyone on the machine.
"""

import ipaddress
import os
import sys
from urllib.parse import urlsplit

from flows.project import LOCAL_STATE, UsageError
from stages.params import document
from stages.tracking import store

HOST = "127.0.0.1"
POOL = "visionline"
DATA_DOCS = LOCAL_STATE / "data-docs"
ALL = ("mlflow", "prefect", "worker", "data-docs")
PAGES = ("mlflow", "prefect", "data-docs")  # what a person looks at
S3, BUCKET = "s3", "visionline"
HEALTH = {"prefect": "/api/health", "mlflow": "/health", "data-docs": "/", "worker": "/health", S3: "/moto-api/"}
ADDRESS = {"mlflow": "MLFLOW_TRACKING_URI", "prefect": "PREFECT_API_URL"}
DATABASE = {"mlflow": "MLFLOW_BACKEND_STORE_URI", "prefect": "PREFECT_SERVER_DATABASE_CONNECTION_URL"}
MLFLOW_AUTH = "MLFLOW_AUTH_CONFIG_PATH"
OF_SERVERS = (*DATABASE.values(), "PREFECT_SERVER_API_AUTH_STRING", MLFLOW_AUTH, "MLFLOW_FLASK_SERVER_SECRET_KEY")


def served_elsewhere(name: str) -> str | None:
    """The address of a service that somebody else keeps up, else None."""
    address = os.environ.get(ADDRESS.get(name, ""), "")
    is_ours = os.environ.get(DATABASE.get(name, ""))
    return address.removesuffix("/api") if address.startswith("http") and not is_ours else None


def port_of_address(name: str) -> int:
    """The port at which the environment says that a service of ours is, else 0; UsageError when it can't be there."""
    database, address = DATABASE.get(name, ""), ADDRESS.get(name, "")
    if not os.environ.get(database):
        return 0
    told = urlsplit(os.environ.get(address, ""))
    if name == "mlflow" and not told.scheme.startswith("http"):
        raise UsageError(f"{database} is set: {address} must say where it is served, such as http://{HOST}:5000")
    if told.scheme and not _is_loopback(told.hostname or ""):
        raise UsageError(f"{database} is set, but {address} is not on this machine's loopback, where it is served")
    return told.port or 0


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def prepare(name: str) -> None:
    """Make what a service needs to find when it starts."""
    if name == "mlflow" and not os.environ.get(DATABASE["mlflow"]):
        store.client()  # makes the database, once
    if name == "data-docs":
        DATA_DOCS.mkdir(parents=True, exist_ok=True)


def command(name: str, port: int) -> list[str]:
    """The command of a service on a port of the loopback interface."""
    python, commands = [sys.executable, "-m"], {"mlflow": _mlflow, "prefect": _prefect, "worker": _worker}
    if name in commands:
        return [*python, *commands[name](port)]
    if name == S3:
        return [*python, "moto.server", "--host", HOST, "--port", str(port)]
    return [*python, "http.server", str(port), "--bind", HOST, "-d", str(DATA_DOCS)]


def _mlflow(port: int) -> list[str]:
    options = ["--host", HOST, "--port", str(port), "--workers", "1"]
    if not os.environ.get(DATABASE["mlflow"]):
        options += ["--backend-store-uri", store.tracking_uri()]
    return ["mlflow", "server", *options, *(["--app-name", "basic-auth"] if os.environ.get(MLFLOW_AUTH) else [])]


def _prefect(port: int) -> list[str]:
    application = "prefect.server.api.server:create_app"
    options = ["--host", HOST, "--port", str(port), "--log-level", "warning", "--timeout-keep-alive", "10"]
    return ["uvicorn", "--factory", application, *options]


def _worker(_: int) -> list[str]:
    return ["prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", "local", "--with-healthcheck"]


def settings(name: str, port: int, prefect_api: str | None = None) -> dict[str, str]:
    """The whole environment of a service; what only the servers need to know is kept from the worker."""
    if name == "prefect":
        pages = f"http://{HOST}:{port}"
        return {**os.environ, "PREFECT_UI_API_URL": f"{pages}/api", "PREFECT_UI_URL": pages}
    if name == "mlflow":  # no one asks it to run jobs, for which it would keep processes
        return {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **os.environ}
    if name != "worker":
        return dict(os.environ)
    if prefect_api is None:
        raise UsageError("a worker needs a Prefect server: visionline up starts one, or set PREFECT_API_URL")
    kept = {key: value for key, value in os.environ.items() if key not in OF_SERVERS}
    return kept | {
        "PREFECT_API_URL": prefect_api,
        "PREFECT_WORKER_WEBSERVER_HOST": HOST,
        "PREFECT_WORKER_WEBSERVER_PORT": str(port),
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(document.load().retraining.heartbeat_s),
    }


def address(port: int) -> str:
    """Where a service of this machine is."""
    return f"http://{HOST}:{port}"
