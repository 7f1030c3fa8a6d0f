"""The log of a served model's requests: a line of JSON each, in files that are replaced when they are full."""

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from stages.tracking import findings
from stages.tracking.process import LOCAL_STATE

FOLDER = LOCAL_STATE / "requests"
FILE = "requests.jsonl"
MAX_BYTES, NUM_OLD = 16 << 20, 8
MAX_FINDINGS = 100  # of an image that are logged


@dataclass(frozen=True)
class Request:
    """What is kept of a request; never the image itself."""

    time: str  # ISO 8601, UTC
    sha256: str  # of the body
    version: str
    role: str  # "champion" and the like: who answered the caller; "canary"; "shadow": nobody saw this answer
    status: int  # of HTTP
    ms: float
    labels: tuple[str, ...]  # of all images of the request
    scores: tuple[float, ...]
    agrees: bool | None = None  # of a shadow: the same labels as were answered; None: can't be told


class RequestLog(RotatingFileHandler):
    """Appends requests of a model to its files."""

    def __init__(self, name: str, max_bytes: int = MAX_BYTES, num_old: int = NUM_OLD) -> None:
        file = (FOLDER / name / FILE).absolute()
        file.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(file, maxBytes=max_bytes, backupCount=num_old, encoding="utf8")

    def write(self, request: Request) -> None:
        """Append a request; OSError, as when the disk is full."""
        line = json.dumps(asdict(request)) + "\n"
        if self.stream and self.stream.tell() + len(line) > self.maxBytes:
            self.doRollover()
        self.stream = self.stream or self._open()
        self.stream.write(line)
        self.stream.flush()


def read(name: str, num_files: int = NUM_OLD + 1) -> Iterator[Request]:
    """The requests that are still kept, oldest first, of the newest files; a line that a crash cut off is left out."""
    files = [FOLDER / name / FILE, *(FOLDER / name / f"{FILE}.{number}" for number in range(1, num_files))]
    for file in filter(Path.is_file, reversed(files)):
        with file.open(encoding="utf8", errors="replace") as lines:
            for line in lines:
                try:
                    told = json.loads(line)
                except json.JSONDecodeError:
                    continue
                yield Request(**told | {"labels": tuple(told["labels"]), "scores": tuple(told["scores"])})


def said(answers: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Labels and scores of what answers are sure of."""
    sure = [found for a in answers for found in findings.read(a).sure(findings.LIKELY_SCORE)[:MAX_FINDINGS]]
    return tuple(found["label"] for found in sure), tuple(round(float(found["score"]), 4) for found in sure)


def compared(requests: Iterable[Request]) -> list[dict[str, Any]]:
    """How the versions that answered compare: requests, failures, latency and scores of each version in each role."""
    groups: dict[tuple[str, str], list[Request]] = defaultdict(list)
    for request in requests:
        groups[request.version, request.role].append(request)
    return [
        {"version": version, "role": role, **_summary(group)}
        for (version, role), group in sorted(groups.items(), key=lambda item: (int(item[0][0]), item[0][1]))
    ]


def _summary(group: list[Request]) -> dict[str, Any]:
    scores = [score for request in group for score in request.scores]
    agreed = [request.agrees for request in group if request.agrees is not None]
    ms = sorted(request.ms for request in group)
    return {
        "requests": len(group),
        "failed": sum(request.status >= 500 for request in group),
        "refused": sum(400 <= request.status < 500 for request in group),
        "median_ms": statistics.median(ms),
        "p95_ms": ms[min(len(ms) - 1, int(0.95 * len(ms)))],
        "mean_score": statistics.fmean(scores) if scores else None,
        "agreement": sum(agreed) / len(agreed) if agreed else None,
        "last": group[-1].time,
    }
