"""One address before the versions of a model: reads requests, has them answered, logs and counts them."""

import asyncio
import hashlib
import json
import math
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flows.backends import Fleet
from flows.project import WorkError
from stages.tracking.requests import Request as Logged
from stages.tracking.requests import RequestLog, said

CANARY, SHADOW = "canary", "shadow"
PATIENCE = 16  # of a body that is too large, this many times the limit is read before the connection is closed
SHADOWS_AT_ONCE = 32  # more are left out, so that a slow shadow holds back nothing

Said = tuple[tuple[str, ...], tuple[float, ...]]  # labels and scores


@dataclass
class Router:
    """What a request passes through."""

    fleet: Fleet
    max_bytes: int
    canary_share: float
    log: RequestLog | None

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.fleet)
        self._shadows: set[asyncio.Task[None]] = set()
        self._told = ""

    def application(self) -> Starlette:
        """The routes."""
        routes = [Route(path, _health) for path in ("/ping", "/health")]
        routes += [Route("/version", self._version), Route("/metrics", self.metrics.page)]
        routes += [Route(path, self._answer, methods=["POST"]) for path in ("/predict", "/invocations")]
        return Starlette(routes=routes, exception_handlers={HTTPException: _refused})

    async def _version(self, request: Request) -> JSONResponse:
        main = self.fleet.roles[self.fleet.main].facts
        others = {role: b.version for role, b in self.fleet.roles.items() if role != self.fleet.main}
        return JSONResponse({**main, **others})

    async def _answer(self, request: Request) -> Response:
        body = await read_body(request, self.max_bytes)
        path, content_type = request.url.path, request.headers.get("content-type", "")
        sha256 = hashlib.sha256(body).hexdigest()
        role = CANARY if int(sha256[:8], 16) < self.canary_share * 2**32 else self.fleet.main
        role = role if role in self.fleet.roles else self.fleet.main
        began = time.perf_counter()
        try:
            version, answer = await self.fleet.ask(role, path, body, content_type)
        except (WorkError, httpx.HTTPError) as error:
            raise HTTPException(503, f"no answer: {' '.join(str(error).split())}") from None
        told = _said(answer, path)
        self._note(sha256, version, role, answer, began, told)
        if SHADOW in self.fleet.roles:
            self._ask_shadow(body, path, content_type, sha256, told)
        headers = {"X-Model-Version": version}
        return Response(answer.content, answer.status_code, headers, answer.headers.get("content-type"))

    def _ask_shadow(self, body: bytes, path: str, content_type: str, sha256: str, told: Said | None) -> None:
        if len(self._shadows) >= SHADOWS_AT_ONCE:
            self.metrics.left_out.inc()
            return

        async def ask() -> None:
            began = time.perf_counter()
            try:
                version, answer = await self.fleet.ask(SHADOW, path, body, content_type)
            except (WorkError, httpx.HTTPError):
                self.metrics.left_out.inc()
                return
            heard = _said(answer, path)
            self._note(sha256, version, SHADOW, answer, began, heard, _agree(told, heard))

        task = asyncio.create_task(ask())
        self._shadows.add(task)
        task.add_done_callback(self._shadows.discard)

    def _note(
        self, sha256: str, version: str, role: str, answer: httpx.Response, began: float, told: Said | None,
        agrees: bool | None = None,
    ) -> None:  # fmt: skip
        """Log and count an answer."""
        seconds = time.perf_counter() - began
        labels, scores = told or ((), ())
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        note = Logged(now, sha256, version, role, answer.status_code, round(seconds * 1000, 2), labels, scores, agrees)
        self.metrics.count(note)
        if self.log:
            try:
                self.log.write(note)
                self._told = ""
            except OSError as error:  # a full disk shall not stop the answers
                if self._told != str(error):
                    problem = f"the request log {self.log.baseFilename} can't be written: {error}"
                    print(f"visionline: {problem}", file=sys.stderr, flush=True)
                self._told = str(error)


async def _health(request: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    headers = {"Connection": "close"} if error.status_code == 413 else None  # the rest of it is not read
    return JSONResponse({"error": error.detail}, error.status_code, headers)


def _said(answer: httpx.Response, path: str) -> Said | None:
    """What an answer says, a refusal nothing; None for a form that only a newer visionline knows."""
    if answer.status_code != 200:
        return (), ()
    try:
        return said(_answers(answer, path))
    except RuntimeError:
        return None


def _agree(told: Said | None, heard: Said | None) -> bool | None:
    """Whether two answers have the same labels; None where one of them can't be read."""
    return None if told is None or heard is None else sorted(told[0]) == sorted(heard[0])


def _answers(answer: httpx.Response, path: str) -> list[Mapping[str, Any]]:
    """The model's answers in a response, whichever protocol it is of."""
    content = answer.json()
    if path == "/invocations":
        return [json.loads(row["answer"]) for row in content["predictions"]]
    return list(content.get("answers", [content]))


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The body; no more of it is kept than the limit, but some more is read, so that the sender hears why."""
    body, size, patience = bytearray(), 0, PATIENCE * max_bytes
    declared = request.headers.get("content-length", "")
    is_hopeless = declared.isdecimal() and int(declared) > patience
    stream: AsyncIterator[bytes] = request.stream()
    try:
        while not is_hopeless and size <= patience and (part := await anext(stream, None)) is not None:
            size += len(part)
            body += part if size <= max_bytes else b""
    except ClientDisconnect:
        raise HTTPException(400, "the body ended early") from None
    if is_hopeless or size > max_bytes:
        raise HTTPException(413, f"the body has more than {max_bytes} bytes: see --max-bytes")
    if not body:
        raise HTTPException(400, "the body is empty")
    return bytes(body)


class Metrics:
    """What Prometheus reads at /metrics."""

    def __init__(self, fleet: Fleet) -> None:
        self.registry, self._fleet = CollectorRegistry(), fleet
        labels = ("version", "role")
        self.requests = Counter("visionline_requests", "Answers", (*labels, "status"), registry=self.registry)
        self.seconds = Histogram(
            "visionline_request_seconds", "From the whole body to the answer", labels, registry=self.registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, math.inf),
        )  # fmt: skip
        self.agreed = Counter("visionline_shadow_answers", "Of the shadow", ("agrees",), registry=self.registry)
        self.left_out = Counter("visionline_shadow_left_out", "Requests it did not get", registry=self.registry)
        self.serving = Gauge("visionline_serving", "1 for what answers now", ("name", *labels), registry=self.registry)
        self.switches = Gauge("visionline_switches", "Times that an alias moved", registry=self.registry)

    def count(self, request: Logged) -> None:
        """Enter an answer."""
        self.requests.labels(request.version, request.role, str(request.status)).inc()
        self.seconds.labels(request.version, request.role).observe(request.ms / 1000)
        if request.agrees is not None:
            self.agreed.labels(str(request.agrees).lower()).inc()

    async def page(self, request: Request) -> Response:
        """The numbers in Prometheus's text format."""
        self.serving.clear()
        for role, backend in self._fleet.roles.items():
            self.serving.labels(backend.facts["name"], backend.version, role).set(1)
        self.switches.set(self._fleet.num_switches)
        return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_LATEST)
