"""The processes that answer for a served model, one a version: started, replaced when an alias moves, and ended."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from flows.project import WorkError
from stages.tracking import outside, registry
from stages.tracking.process import child_of_this_process

START_S = 300.0
ANSWER_S = 600.0
END_S = 10.0
NOTICE_S = 1.0  # within which a process whose connections broke is seen to have ended
RETRY_S = 30.0  # until a version that could not be started is tried again


@dataclass(eq=False)
class Backend:
    """A version's process, and how many requests it is answering."""

    facts: Mapping[str, Any]
    process: subprocess.Popen[bytes]
    client: httpx.AsyncClient
    num_busy: int = 0

    @property
    def version(self) -> str:
        """The version's number."""
        return str(self.facts["version"])

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self.process.poll() is None

    async def ask(self, path: str, body: bytes, content_type: str) -> httpx.Response:
        """What the version answers; httpx.TransportError when its process ended meanwhile."""
        self.num_busy += 1
        try:
            return await self.client.post(path, content=body, headers={"Content-Type": content_type})
        finally:
            self.num_busy -= 1

    async def end(self) -> None:
        """End the process once it has answered all that it was asked."""
        while self.num_busy and self.is_alive:
            await asyncio.sleep(0.05)
        await self.client.aclose()
        self.process.terminate()
        if not await self.has_ended(END_S):
            self.process.kill()

    async def has_ended(self, within_s: float) -> bool:
        """Whether the process ends within some seconds."""
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self.process.wait, within_s)
        return not self.is_alive


async def start(facts: Mapping[str, Any], folder: Path) -> Backend:
    """The process of a version, ready to answer on a socket that only this user may open; WorkError with its reason."""
    socket = Path(tempfile.mkdtemp(dir=folder)) / "socket"
    uri = f"models:/{facts['name']}/{facts['version']}"
    # Not asyncio's own subprocesses: one that is cancelled while it starts hangs for ever (cpython#103847).
    process = subprocess.Popen(
        outside.command("front.py", uri, str(socket), json.dumps(facts)), cwd="/", env=outside.environment(),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, preexec_fn=child_of_this_process(),
    )  # fmt: skip
    assert process.stdout
    try:
        line = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), START_S)
        if not line:
            raise WorkError(f"{uri} can't be served")  # it has told why
    except BaseException as error:  # also that the server ends meanwhile
        process.kill()
        process.wait()
        if isinstance(error, TimeoutError):
            raise WorkError(f"{uri} said nothing for {START_S:g} s") from None
        raise
    transport = httpx.AsyncHTTPTransport(uds=str(socket), limits=httpx.Limits(max_connections=None))
    return Backend(facts, process, httpx.AsyncClient(transport=transport, base_url="http://model", timeout=ANSWER_S))


class Fleet:
    """Role -> the version that answers in it; a role whose alias names nothing, or the main version, is empty."""

    def __init__(self, addresses: Mapping[str, str], main: str) -> None:
        self.main = main
        self.roles: dict[str, Backend] = {}
        self.num_switches = 0
        self._addresses = addresses
        self._failed: dict[str, float] = {}  # version -> when it could not be started
        self._changing = asyncio.Lock()
        self._ending: set[asyncio.Task[None]] = set()
        self._folder = tempfile.TemporaryDirectory(prefix="visionline-")

    async def __aenter__(self) -> "Fleet":
        await self.refresh()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*self._ending, *(backend.end() for backend in self.roles.values()))
        self._folder.cleanup()

    async def ask(self, role: str, path: str, body: bytes, content_type: str) -> tuple[str, httpx.Response]:
        """Version and answer; a version whose process ended is started again. WorkError when that does not help."""
        for _ in range(2):
            backend = self.roles.get(role) or self.roles[self.main]
            try:
                return backend.version, await backend.ask(path, body, content_type)
            except httpx.TransportError as error:
                if isinstance(error, httpx.TimeoutException):
                    backend.process.kill()  # it hangs
                await backend.has_ended(NOTICE_S)
                await self.refresh()
        raise WorkError(f"version {backend.version} ended while it answered, twice")

    async def watch(self, every_s: float) -> None:
        """Follow the aliases for ever; problems are told once, and the versions at hand stay."""
        told = ""
        while True:
            await asyncio.sleep(every_s)
            try:
                await self.refresh()
                told = ""
            except Exception as error:  # whatever the registry or a model makes of it
                before, told = told, " ".join(str(error).split())
                if told != before:
                    print(f"visionline: {told}; the version at hand stays", file=sys.stderr, flush=True)

    async def refresh(self) -> None:
        """Start what the aliases name now; it takes over when it can answer, and who answered before ends its work."""
        async with self._changing:
            for role in (self.main, *(self._addresses.keys() - {self.main})):
                version = await self._named(role)
                present = self.roles.get(role)
                if version is None:
                    self._retire(self.roles.pop(role, None))
                elif not (present and present.is_alive and present.version == version.number):
                    self.roles[role] = await self._started(role, version)
                    self.num_switches += present is not None and present.version != version.number
                    self._retire(present)

    async def _named(self, role: str) -> registry.Version | None:
        """The version that a role's alias names; None of a role beside the main one that would double it."""
        try:
            version = await asyncio.to_thread(registry.version, self._addresses[role])
        except ValueError:
            if role == self.main:
                raise
            return None
        return version if role == self.main or version.number != self.roles[self.main].version else None

    async def _started(self, role: str, version: registry.Version) -> Backend:
        if time.monotonic() - self._failed.get(version.number, -RETRY_S) < RETRY_S:
            raise WorkError(f"{version.name} version {version.number} could not be started a moment ago")
        name, _, named = self._addresses[role].partition("@")
        alias = named or (registry.CHAMPION if "/" not in name else None)
        facts = {"name": version.name, "version": version.number, "alias": alias, "model_hash": version.model_hash}
        try:
            return await start(facts, Path(self._folder.name))
        except WorkError:
            self._failed[version.number] = time.monotonic()
            raise

    def _retire(self, backend: Backend | None) -> None:
        if backend is not None:
            task = asyncio.create_task(backend.end())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
