"""Fresh models without a person, against a real Prefect server, a real worker and a served model."""

import http.server
import json
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.long]
DRIFTED = """
from flows import drift, project, services
project.enter()
services.announce(drift.EVENT, "visionline.task.scenes", {"task": "scenes"})
"""


def served_version(address: str) -> str:
    with urllib.request.urlopen(f"{address}/version", timeout=30) as response:
        return json.load(response)["version"]


def test_new_images_become_the_served_champion_and_bad_ones_do_not(
    attended: Any, tmp_path: Path, find_on_page: Callable[..., None]
) -> None:
    clone, wait_for = attended.clone, attended.wait_for

    server = clone.start("serve", "patterns", "--port", "0", "--refresh", "0.5")
    try:
        line = server.stdout.readline()
        assert "serving patterns version 1 on" in line, line
        address = line.split()[-1]

        runs_before = clone.sql("SELECT count(*) FROM runs WHERE name LIKE 'finetune@%'")[0][0]
        num = attended.ingest(tmp_path / "drop", "train", is_new=True)
        revision = clone.git("rev-parse", "HEAD")
        run = wait_for("the event starts a retraining, which ends", lambda: attended.ended("retrain", 0))
        assert run["state_type"] == "COMPLETED", run["state"]["message"]
        assert run["parameters"] == {"dataset": "shapes-patterns", "revision": revision}
        assert run["state"]["message"] == "trained patterns"
        trained = clone.sql("SELECT name FROM runs WHERE name LIKE 'finetune@%' ORDER BY start_time")
        assert [name for (name,) in trained[runs_before:]] == ["finetune@patterns"]
        assert clone.aliases("patterns") == {"challenger": 2, "champion": 2}
        assert clone.aliases("scenes") == {"challenger": 1, "champion": 1}
        wait_for("the server answers with it", lambda: served_version(address) == "2", 60)
        trace = json.loads(clone.ok("trace", "data:shapes-patterns", "--json"))
        assert trace["changes"]["counts"]["added"] == num
        assert "patterns@champion" in trace["live"]

        assert clone.run(sys.executable, "-c", DRIFTED).returncode == 0
        idle = wait_for("a drift starts a retraining, too", lambda: attended.ended("retrain", 1))
        assert idle["parameters"] == {"task": "scenes"}
        assert idle["state"]["message"].startswith("nothing was due: scenes: no labelled images are new"), idle["state"]

        attended.ingest(tmp_path / "bad", "test", is_new=False)  # train images come again, as test images
        failed = wait_for("another retraining ends", lambda: attended.ended("retrain", 2))
        assert failed["state_type"] == "FAILED"
        assert "validate@shapes-patterns" in failed["state"]["message"]
        # Prefect tells at least once: a state that is saved anew, since the database was locked, is told of anew.
        for message in wait_for("the notification", lambda: attended.told, 60):
            assert message["subject"] == "visionline: retrain Failed", attended.told
            assert failed["name"] in message["text"] and "validate@shapes-patterns" in message["text"], attended.told
        held = [file for file in (clone.root / ".visionline").rglob("*") if file.is_file()]
        assert [file for file in held if b"token=hush" in file.read_bytes()] == []  # not even in Prefect's database
        assert clone.aliases("patterns")["champion"] == 2
        assert served_version(address) == "2"
        can_be_found(attended, failed, find_on_page)
    finally:
        server.terminate()
        server.wait(timeout=30)


def can_be_found(attended: Any, failed: dict[str, Any], find_on_page: Callable[..., None]) -> None:
    """A person finds runs, stages, artifact, version and validation on the pages."""
    prefect, mlflow, data_docs = (attended.addresses[name] for name in ("prefect", "mlflow", "data-docs"))
    stages = attended.ask("task_runs/filter", {"task_runs": {"name": {"like_": "finetune@patterns"}}})
    find_on_page(f"{prefect}/runs/task-run/{stages[0]['id']}", "finetune@patterns", "validation: top1")
    find_on_page(f"{prefect}/runs/flow-run/{failed['id']}", failed["name"], "Failed", "validate@shapes-patterns")
    find_on_page(f"{prefect}/artifacts/key/visionline-result", "What the pipeline made")
    find_on_page(f"{mlflow}/#/models/patterns/versions/2", "Version 2", "@ champion")
    find_on_page(data_docs, "shapes-patterns", "1 critical")


def test_ports_are_checked_and_what_runs_is_left_alone(attended: Any) -> None:
    clone, addresses = attended.clone, attended.addresses
    again = json.loads(clone.ok("up", "--prefect-port", "0", "--mlflow-port", "0", "--json"))
    assert again == addresses
    port = addresses["mlflow"].rpartition(":")[2]
    assert "mlflow" in clone.ok("down")
    with http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), http.server.BaseHTTPRequestHandler):
        taken = clone.visionline("up", "--prefect-port", "0", "--mlflow-port", port)
    assert (taken.returncode, f"port {port} of mlflow" in taken.stderr) == (2, True), taken.stderr
