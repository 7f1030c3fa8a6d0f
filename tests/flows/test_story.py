"""Fresh models without a person, against a real Prefect server, a real worker and a served model."""

import http.server
import json
import shutil
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps

pytestmark = [pytest.mark.slow, pytest.mark.long]

SETTINGS = (
    "models.patterns={promote: auto, gate: {margin: 1.0, slices: [], max_latency_ratio: null}}",
    "retraining={quiet_s: 1, retries: 0}",
    "tasks.patterns.control=false",
)


@pytest.fixture
def told() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A webhook and what it was told."""
    messages: list[dict[str, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook?token=hush", messages
    server.shutdown()


@pytest.fixture
def services(ran: Any, told: Any, tmp_path: Path) -> Iterator[tuple[Any, dict[str, str]]]:
    """A clone with its own services and deployments, and their addresses."""
    clone = ran.clone.copy(tmp_path / "project")
    script = "import sys; from stages.params import edit; edit.set_values(dict(a.split('=', 1) for a in sys.argv[1:]))"
    assert clone.run(sys.executable, "-c", script, *SETTINGS).returncode == 0
    clone.git("commit", "--quiet", "--all", "--message", "promote by itself")
    try:
        addresses = json.loads(clone.ok("up", "--prefect-port", "0", "--mlflow-port", "0", "--json"))
        clone.ok("deploy", VISIONLINE_NOTIFY_URL=told[0])
        yield clone, addresses
    finally:
        print(clone.ok("down"))
    assert clone.processes() == []


def wait_for(what: str, condition: Callable[[], Any], timeout_s: float = 300) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: it did not happen in time"
        time.sleep(0.5)
    return found


def flow_runs(api: str, name: str) -> list[dict[str, Any]]:
    """Runs of a flow as the server knows them, oldest first."""
    body = json.dumps({"flows": {"name": {"any_": [name]}}, "sort": "EXPECTED_START_TIME_ASC"}).encode()
    request = urllib.request.Request(f"{api}/flow_runs/filter", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def served_version(address: str) -> str:
    with urllib.request.urlopen(f"{address}/version", timeout=30) as response:
        return json.load(response)["version"]


def drop(clone: Any, folder: Path, is_new: bool) -> int:
    """Pictures of the train split, turned over or as they are, into a folder; how many."""
    train = clone.root / ".visionline/shapes/imagefolder/train"
    files = [file for label in sorted(train.iterdir()) for file in sorted(label.iterdir())[:2]]
    for file in files:
        place = folder / file.parent.name / f"new-{file.stem}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        if is_new:
            with Image.open(file) as image:
                ImageOps.flip(image.convert("RGB")).save(place)
        else:
            shutil.copy(file, place)
    return len(files)


def test_new_images_become_the_served_champion_and_bad_ones_do_not(
    services: Any, told: tuple[str, list[dict[str, str]]], tmp_path: Path
) -> None:
    clone, addresses = services
    api = f"{addresses['prefect']}/api"
    server = clone.start("serve", "patterns", "--port", "0", "--refresh", "0.5")
    try:
        line = server.stdout.readline()
        assert "serving patterns version 1 on" in line, line
        address = line.split()[-1]

        num = drop(clone, tmp_path / "drop", is_new=True)
        runs_before = clone.sql("SELECT count(*) FROM runs WHERE name LIKE 'finetune@%'")[0][0]
        source = str(tmp_path / "drop")
        printed = clone.ok("ingest", "shapes-patterns", source, "--format", "imagefolder", "--split", "train")
        assert f"{num} added" in printed
        (run,) = wait_for("an event starts a retraining", lambda: flow_runs(api, "retrain"))
        wait_for("it ends", lambda: flow_runs(api, "retrain")[0]["state_type"] in ("COMPLETED", "FAILED", "CRASHED"))
        (run,) = flow_runs(api, "retrain")
        assert run["state_type"] == "COMPLETED", run["state"]["message"]
        assert run["parameters"]["dataset"] == "shapes-patterns"
        assert run["parameters"]["revision"] == clone.git("rev-parse", "HEAD~1")
        assert run["state"]["message"] == "trained patterns"
        trained = clone.sql("SELECT name FROM runs WHERE name LIKE 'finetune@%' ORDER BY start_time")
        assert [name for (name,) in trained[runs_before:]] == ["finetune@patterns"]
        assert clone.aliases("patterns") == {"challenger": 2, "champion": 2}
        assert clone.aliases("scenes") == {"challenger": 1, "champion": 1}
        wait_for("the server answers with it", lambda: served_version(address) == "2", 60)
        trace = json.loads(clone.ok("trace", "data:shapes-patterns", "--json"))
        assert trace["changes"]["counts"]["added"] == num
        assert "patterns@champion" in trace["live"]

        drop(clone, tmp_path / "bad", is_new=False)  # train images come again, as test images
        clone.ok("ingest", "shapes-patterns", str(tmp_path / "bad"), "--format", "imagefolder", "--split", "test")
        wait_for("another retraining", lambda: len(flow_runs(api, "retrain")) == 2)
        wait_for("it ends", lambda: flow_runs(api, "retrain")[1]["state_type"] in ("COMPLETED", "FAILED", "CRASHED"))
        failed = flow_runs(api, "retrain")[1]
        assert failed["state_type"] == "FAILED"
        assert "validate@shapes-patterns" in failed["state"]["message"]
        (message,) = wait_for("the notification", lambda: told[1], 60)
        assert "retrain" in message["subject"] and "validate@shapes-patterns" in message["text"]
        assert clone.aliases("patterns")["champion"] == 2
        assert served_version(address) == "2"
    finally:
        server.terminate()
        server.wait(timeout=30)


def test_ports_are_checked_and_what_runs_is_left_alone(services: Any) -> None:
    clone, addresses = services
    again = json.loads(clone.ok("up", "--prefect-port", "0", "--mlflow-port", "0", "--json"))
    assert again == addresses
    port = addresses["mlflow"].rpartition(":")[2]
    assert "mlflow" in clone.ok("down")
    with http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), http.server.BaseHTTPRequestHandler):
        taken = clone.visionline("up", "--prefect-port", "0", "--mlflow-port", port)
    assert (taken.returncode, f"port {port} of mlflow" in taken.stderr) == (2, True), taken.stderr
