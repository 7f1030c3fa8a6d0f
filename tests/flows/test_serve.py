"""The server as it is started: raw images and MLflow's protocol, the answers of evaluate, and an end without rest."""

import base64
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

LIMIT = 1_000_000


@dataclass(frozen=True)
class Server:
    """A server that was started by the command."""

    process: subprocess.Popen[str]
    address: str

    def ask(self, path: str, body: bytes | None = None, content_type: str = "image/png") -> tuple[int, Any]:
        """Status and JSON of an answer; a POST when there is a body."""
        request = urllib.request.Request(self.address + path, body, {"Content-Type": content_type})
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


@pytest.fixture(scope="module")
def server(evaluated: Any) -> Iterator[Server]:
    """The detector, on a free port; a signal ends it."""
    process = evaluated.clone.start("serve", "scenes@challenger", "--port", "0", "--max-bytes", str(LIMIT))
    line = process.stdout.readline()
    if " on http://" not in line:
        process.kill()
        pytest.fail(line + process.stdout.read())
    yield Server(process, line.split()[-1])
    process.kill()
    process.wait()


@pytest.mark.slow
def test_the_answers_are_those_of_evaluate(server: Server, evaluated: Any) -> None:
    files, expected = evaluated.files("scenes"), evaluated.boxes()
    raw = [server.ask("/predict", file.read_bytes())[1] for file in files.values()]
    body = {
        "columns": ["image"],
        "data": [[base64.b64encode(file.read_bytes()).decode()] for file in files.values()],
    }
    status, scored = server.ask("/invocations", json.dumps({"dataframe_split": body}).encode(), "application/json")
    assert status == 200
    for key, alone, together in zip(files, raw, scored["predictions"], strict=True):
        for boxes in (alone["boxes"], json.loads(together["answer"])["boxes"]):
            assert len(boxes) == len(expected[key]) > 0
            for box, (_, score, (x, y, width, height)) in zip(boxes, expected[key], strict=True):
                assert box["score"] == pytest.approx(score, abs=1e-5)
                assert box["box_xyxy"] == pytest.approx([x, y, x + width, y + height], abs=1e-2)


@pytest.mark.slow
def test_it_says_what_it_serves_and_refuses_bad_bodies(server: Server, evaluated: Any) -> None:
    ((model_hash,),) = evaluated.clone.sql(
        "SELECT value FROM model_version_tags WHERE name = 'scenes' AND key = 'visionline.model'"
    )
    facts = {"name": "scenes", "version": "1", "alias": "challenger", "model_hash": model_hash}
    assert server.ask("/version") == (200, facts)
    assert [server.ask(path)[0] for path in ("/health", "/ping")] == [200, 200]
    picture = next(iter(evaluated.files("scenes").values())).read_bytes()
    bad = {
        400: (picture[: len(picture) // 2], "image/jpeg"),
        413: (b"x" * (8 * LIMIT), "image/jpeg"),
        415: (picture, "application/json"),
    }
    for status, (body, content_type) in bad.items():
        answer = server.ask("/predict", body, content_type)
        assert (answer[0], list(answer[1])) == (status, ["error"])
    assert "truncated" in server.ask("/predict", *bad[400])[1]["error"]


@pytest.mark.slow
def test_it_listens_on_loopback_alone_and_leaves_nothing_behind(server: Server, evaluated: Any) -> None:
    process = psutil.Process(server.process.pid)
    (model,) = process.children()
    assert {c.laddr.ip for c in process.net_connections() if c.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
    assert model.net_connections("inet") == []
    assert not Path(model.cwd()).is_relative_to(evaluated.clone.root)
    (socket_file,) = {Path(c.laddr) for c in model.net_connections("unix") if c.laddr}
    assert socket_file.parent.stat().st_mode & 0o077 == 0  # nobody else may ask it
    port = int(server.address.rpartition(":")[2])
    taken = evaluated.clone.visionline("serve", "scenes", "--port", str(port))
    assert (taken.returncode, taken.stderr.count("\n"), f":{port}" in taken.stderr) == (1, 1, True), taken.stderr
    os.kill(process.pid, signal.SIGTERM)
    server.process.wait(timeout=30)
    assert server.process.stdout and server.process.stdout.read() == ""
    psutil.wait_procs([model], timeout=5)
    assert not model.is_running()
    assert not socket_file.parent.parent.exists()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.slow
def test_an_interrupt_while_the_model_is_loaded_ends_it_quietly(evaluated: Any) -> None:
    process = evaluated.clone.start("serve", "scenes", "--port", "0")
    deadline = time.monotonic() + 60
    while not _models(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    (model,) = _models(process)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=30)
    assert "Traceback" not in printed
    assert process.returncode == 130
    psutil.wait_procs([model], timeout=5)
    assert not model.is_running()


def _models(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes of the versions that a server answers with."""
    found = []
    for child in psutil.Process(process.pid).children():
        with suppress(psutil.NoSuchProcess):  # a command that the server had asked, and that has ended since
            found += [child] if "front.py" in " ".join(child.cmdline()) else []
    return found
