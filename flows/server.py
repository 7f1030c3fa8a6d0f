"""The Prefect server of a run: an address that is given, or one that lives as long as this process."""

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from flows import stack
from flows.project import LOCAL_STATE, WorkError
from stages.tracking.process import child_of_this_process, locked

START_TIMEOUT_S = 180.0
LOG = LOCAL_STATE / "logs" / "prefect-server.log"


@contextmanager
def prefect_api(service: str | None = None) -> Iterator[str]:
    """The address of a Prefect server, also in PREFECT_API_URL while it is open: of the service that there is.

    Without one a server of our own is started on loopback, its database in PREFECT_HOME. The
    kernel ends it with this process, which Prefect's own embedded server does not survive to do after kill -9.
    """
    if service:
        os.environ["PREFECT_API_URL"] = service
        yield service
        return
    port = free_port()
    address = f"{stack.address(port)}/api"
    with locked("prefect-server", wait_s=24 * 3600):
        server = start(stack.command("prefect", port), stack.settings("prefect", port), LOG, is_bound_to_us=True)
        try:
            wait_until_healthy(f"{address}/health", server, LOG)
            os.environ["PREFECT_API_URL"] = address
            yield address
        finally:
            os.environ.pop("PREFECT_API_URL", None)
            server.terminate()
            server.wait()


def start(
    command: Sequence[str], settings: Mapping[str, str], log: Path, is_bound_to_us: bool = False
) -> subprocess.Popen[bytes]:
    """Start a server that stays when this process ends, or ends with it; what it prints goes to the log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            env=settings,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=child_of_this_process() if is_bound_to_us else None,
            start_new_session=not is_bound_to_us,
        )


def wait_until_healthy(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the server answers; WorkError when it ended or took too long."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.poll() is None:
        if answers(address):
            return
        time.sleep(0.2)
    raise WorkError(f"the server at {address} did not start: see {log}")


def answers(address: str) -> bool:
    """Whether a server says 200 at an address."""
    try:
        with urllib.request.urlopen(address, timeout=5) as response:  # noqa: S310 - an address of our own
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


def make_bucket(address: str, name: str) -> None:
    """Make a bucket in an S3 store that asks for no signature."""
    request = urllib.request.Request(f"{address}/{name}", method="PUT")  # noqa: S310 - an address of our own
    with urllib.request.urlopen(request, timeout=5):  # noqa: S310
        return


def free_port() -> int:
    """A port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
