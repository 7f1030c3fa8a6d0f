"""The router before stand-ins of models: bodies, the log, shadow and canary."""

import hashlib
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.project import WorkError
from flows.router import Router
from stages.tracking import requests

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have a younger httpx
    from starlette.testclient import TestClient

LIMIT = 2000
FACTS = {"name": "cells", "version": "3", "alias": "champion", "model_hash": "1f.dir"}
JPEG = {"content-type": "image/jpeg"}


@dataclass
class Version:
    """A version that answers with one label, or in a form that is not known here."""

    version: str
    label: str = "cat"

    @property
    def facts(self) -> dict[str, Any]:
        return FACTS | {"version": self.version}

    @property
    def answer(self) -> dict[str, Any]:
        if self.label == "deep":
            return {"depth": [1.5]}
        return {"label": self.label, "score": 0.75, "scores": {self.label: 0.75}}


@dataclass
class Fleet:
    """Versions by role, without processes."""

    roles: dict[str, Version]
    main: str = "served"
    num_switches: int = 0
    asked: list[str] = field(default_factory=list)

    async def ask(self, role: str, path: str, body: bytes, content_type: str) -> tuple[str, httpx.Response]:
        self.asked.append(role)
        held = self.roles[role]
        if body == b"dies":
            raise WorkError(f"version {held.version} ended while it answered, twice")
        if body == b"bad":
            return held.version, httpx.Response(400, json={"error": "not an image"})
        return held.version, httpx.Response(200, json=held.answer)


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def client() -> Iterator[TestClient]:
    yield started(Fleet({"served": Version("3")}))


def started(fleet: Fleet, canary: float = 0.0) -> TestClient:
    return TestClient(Router(fleet, LIMIT, canary, requests.RequestLog("cells")).application())  # type: ignore[arg-type]


def test_health_and_version(client: TestClient) -> None:
    assert [client.get(path).status_code for path in ("/ping", "/health")] == [200, 200]
    assert client.get("/version").json() == FACTS


@pytest.mark.parametrize("path", ["/predict", "/invocations"])
def test_an_empty_or_too_large_body_is_refused_here(client: TestClient, path: str) -> None:
    def parts() -> Any:
        for _ in range(100):
            yield b"x" * 1000

    for body, status, word in ((b"", 400, "empty"), (b"x" * (LIMIT + 1), 413, "--max-bytes"), (parts(), 413, "bytes")):
        answer = client.post(path, content=body, headers=JPEG)
        assert (answer.status_code, word in answer.json()["error"]) == (status, True)
    declared = client.post(path, content=b"x", headers={**JPEG, "content-length": "9" * 12})
    assert declared.status_code == 413
    assert list(requests.read("cells")) == []


def test_an_answer_names_its_version_and_is_logged_without_the_image(client: TestClient) -> None:
    answer = client.post("/predict", content=b"pixels", headers=JPEG)
    assert (answer.json()["label"], answer.headers["x-model-version"]) == ("cat", "3")
    assert client.post("/predict", content=b"bad", headers=JPEG).status_code == 400
    gone = client.post("/predict", content=b"dies", headers=JPEG)
    assert (gone.status_code, "twice" in gone.json()["error"]) == (503, True)
    first, second = requests.read("cells")
    assert (first.sha256, first.labels, first.scores) == (hashlib.sha256(b"pixels").hexdigest(), ("cat",), (0.75,))
    assert (second.status, second.labels) == (400, ())
    assert b"pixels" not in (requests.FOLDER / "cells" / requests.FILE).read_bytes()


def test_an_answer_in_a_form_that_is_not_known_here_is_given_all_the_same() -> None:
    client = started(Fleet({"served": Version("3", "deep")}))
    assert client.post("/predict", content=b"pixels", headers=JPEG).json() == {"depth": [1.5]}
    (logged,) = requests.read("cells")
    assert (logged.status, logged.labels, logged.scores) == (200, (), ())


def test_prometheus_finds_counts_latency_and_what_is_served(client: TestClient) -> None:
    for _ in range(3):
        client.post("/predict", content=b"pixels", headers=JPEG)
    page = client.get("/metrics").text
    assert 'visionline_requests_total{role="served",status="200",version="3"} 3.0' in page
    assert 'visionline_request_seconds_count{role="served",version="3"} 3.0' in page
    assert 'visionline_serving{name="cells",role="served",version="3"} 1.0' in page


def test_a_shadow_is_asked_and_logged_but_never_heard() -> None:
    with started(Fleet({"served": Version("3"), "shadow": Version("4", "dog")})) as client:
        answers = [client.post("/predict", content=b"%d" % n, headers=JPEG) for n in range(5)]
        assert {answer.headers["x-model-version"] for answer in answers} == {"3"}
        assert client.get("/version").json()["shadow"] == "4"
    rows = {(row["role"], row["version"]): row for row in requests.compared(requests.read("cells"))}
    assert rows["shadow", "4"]["requests"] == rows["served", "3"]["requests"] == 5
    assert (rows["shadow", "4"]["agreement"], rows["served", "3"]["agreement"]) == (0.0, None)


@pytest.mark.parametrize(
    ("served", "shadow", "agrees"),
    [("cat", "cat", True), ("cat", "dog", False), ("deep", "deep", None), ("cat", "deep", None), ("deep", "cat", None)],
)
def test_answers_that_can_not_be_read_agree_with_none(served: str, shadow: str, agrees: bool | None) -> None:
    with started(Fleet({"served": Version("3", served), "shadow": Version("4", shadow)})) as client:
        client.post("/predict", content=b"pixels", headers=JPEG)
        counted = "visionline_shadow_answers_total{" in client.get("/metrics").text
    assert {note.role: note.agrees for note in requests.read("cells")} == {"served": None, "shadow": agrees}
    assert counted == (agrees is not None)


def test_a_canary_answers_its_share_and_the_same_image_always_the_same() -> None:
    fleet = Fleet({"served": Version("3"), "canary": Version("4")})
    client = started(fleet, canary=0.1)
    bodies = [b"image %d" % n for n in range(1000)]
    first = [client.post("/predict", content=body, headers=JPEG).headers["x-model-version"] for body in bodies]
    assert 70 <= first.count("4") <= 130  # three standard deviations of a binomial: 28
    again = [client.post("/predict", content=body, headers=JPEG).headers["x-model-version"] for body in bodies[:100]]
    assert again == first[:100]


def test_without_a_challenger_all_goes_to_the_champion() -> None:
    client = started(Fleet({"served": Version("3")}), canary=1.0)
    assert client.post("/predict", content=b"x", headers=JPEG).headers["x-model-version"] == "3"


def test_the_log_rotates_and_a_cut_line_is_left_out() -> None:
    log = requests.RequestLog("cells", max_bytes=1000, num_old=2)
    for number in range(30):
        log.write(requests.Request("t", f"{number:064d}", "1", "served", 200, 1.0, ("a",), (0.5,)))
    kept = [int(request.sha256) for request in requests.read("cells")]
    assert kept == sorted(kept) and kept[-1] == 29 and 5 < len(kept) < 20
    assert len(list((requests.FOLDER / "cells").iterdir())) == 3
    with (requests.FOLDER / "cells" / requests.FILE).open("a") as file:
        file.write(json.dumps({"time": "t"})[:-3])
    assert [int(request.sha256) for request in requests.read("cells")] == kept


def test_a_full_disk_stops_no_answer(client: TestClient, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def full(self: Any, request: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(requests.RequestLog, "write", full)
    assert [client.post("/predict", content=b"x", headers=JPEG).status_code for _ in range(3)] == [200] * 3
    assert capsys.readouterr().err.count("No space left") == 1


def test_a_full_disk_stops_the_log_once_said_and_not_the_answers(
    disk: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    state = disk(tmp_path / requests.FOLDER, 1)
    client = started(Fleet({"served": Version("3")}))

    def ask(count: int) -> None:
        for number in range(count):
            assert client.post("/predict", content=b"image %d" % number, headers=JPEG).status_code == 200

    ask(3)
    state.fill()
    ask(200)  # more than what the file's last page and its buffer hold
    told = capfd.readouterr().err
    assert told.count("can't be written") == 1 and "requests.jsonl" in told and "No space left on device" in told
    state.free()
    ask(3)
    kept = list(requests.read("cells"))
    assert len(kept) < 206
    last = [request.sha256 for request in kept[-3:]]
    assert last == [hashlib.sha256(b"image %d" % number).hexdigest() for number in range(3)]
    state.fill()
    ask(200)
    assert capfd.readouterr().err.count("can't be written") == 1  # it had gone well meanwhile
