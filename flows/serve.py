"""The operation `serve`: a registered model answers over HTTP; when its alias moves, the next version does."""

import asyncio
import ipaddress
import signal
import socket
import sys
from dataclasses import dataclass

import uvicorn

from flows.backends import Fleet
from flows.predict import model_at
from flows.project import UsageError, WorkError
from flows.router import CANARY, SHADOW, Router
from stages.tracking import registry
from stages.tracking.requests import RequestLog

GRACE_S = 10


@dataclass(frozen=True)
class Options:
    """What `visionline serve` can be told."""

    host: str
    port: int
    max_bytes: int
    shadow: str | None = None  # an alias of the same model
    canary: float = 0.0  # share of the requests that the challenger answers
    refresh_s: float = 5.0
    has_log: bool = True


def serve(address: str, options: Options) -> None:
    """Answer until a signal comes; UsageError when there is no such version, WorkError when the port is taken."""
    version = model_at(address)
    fleet = Fleet(_roles(address, version.name, options), main="served")
    if not _is_loopback(options.host):
        print(f"visionline: {options.host} is not only this machine, and whoever reaches it may ask", file=sys.stderr)
    with _bound(options.host, options.port) as bound:
        # Uvicorn raises a signal again when it has answered what was open: the models shall end in order, too.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        try:
            asyncio.run(_answer(fleet, bound, version.name, options))
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)


async def _answer(fleet: Fleet, bound: socket.socket, name: str, options: Options) -> None:
    log = RequestLog(name) if options.has_log else None
    async with fleet:
        router = Router(fleet, options.max_bytes, options.canary, log)
        config = uvicorn.Config(router.application(), log_level="warning", timeout_graceful_shutdown=GRACE_S)
        bound.listen()  # whoever reads the next line and calls at once waits for a moment, and is not refused
        host, port = bound.getsockname()[:2]
        versions = ", ".join(f"{role} {b.version}" for role, b in fleet.roles.items() if role != fleet.main)
        print(
            f"serving {name} version {fleet.roles[fleet.main].version}{f' ({versions})' if versions else ''} "
            f"on http://{f'[{host}]' if ':' in host else host}:{port}",
            flush=True,
        )
        watching = asyncio.create_task(fleet.watch(options.refresh_s))
        try:
            await uvicorn.Server(config).serve(sockets=[bound])
        finally:
            watching.cancel()
            if log:
                log.close()


def _roles(address: str, name: str, options: Options) -> dict[str, str]:
    """Role -> address in the registry."""
    roles = {"served": address}
    if options.shadow:
        roles[SHADOW] = f"{name}@{options.shadow}"
        model_at(roles[SHADOW])
    if options.canary:
        roles[CANARY] = f"{name}@{registry.CHALLENGER}"
        model_at(roles[CANARY])
    return roles


def share(text: str) -> float:
    """ "10%" or "0.1" as a share; UsageError for anything else."""
    try:
        found = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 1:
        raise UsageError(f"--canary {text}: must be a share of the requests, such as 10% or 0.1")
    return found


def _bound(host: str, port: int) -> socket.socket:
    """The address, taken before the model is loaded: a taken port is told at once."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise WorkError(f"can't listen on {host}:{port}: {error.strerror or error}: choose another --port") from None
    return bound


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        if not host.strip():
            raise UsageError("--host is empty: name an address of this machine") from None
        return False
