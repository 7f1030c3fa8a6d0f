"""The compose file starts what `visionline up` starts, and nothing of it is open, unpinned or unwatched."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from flows import stack
from stages.params.retraining import RetrainingParams

INFRA = Path(__file__).parents[2] / "infra"
FILE = INFRA / "compose.yaml"
COMPOSE: dict[str, Any] = YAML(typ="safe").load(FILE)
SERVICES: dict[str, Any] = COMPOSE["services"]
ONCE = {name for name, service in SERVICES.items() if service["restart"] == "on-failure"}  # they end
EXAMPLE = dict(
    line.split("=", 1) for line in (INFRA / "env.example").read_text().splitlines() if line and not line.startswith("#")
)


@pytest.mark.parametrize(("name", "port"), [("mlflow", 5000), ("prefect", 4200), ("worker", 8080)])
def test_a_service_is_started_as_on_one_machine(name: str, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in SERVICES["mlflow"]["environment"].items():
        monkeypatch.setenv(variable, value)
    here = ["0.0.0.0" if word == stack.HOST else word for word in stack.command(name, port)]
    assert SERVICES[name]["command"] == ["python", *here[1:]]
    assert here[0] == sys.executable
    assert f":{port}{stack.HEALTH[name]}" in SERVICES[name]["healthcheck"]["test"][-1]


def test_servers_get_databases_and_passwords_and_the_worker_only_what_it_asks_with() -> None:
    told = {name: SERVICES[name]["environment"] for name in ("mlflow", "prefect", "worker")}
    assert {stack.DATABASE["mlflow"], stack.MLFLOW_AUTH} <= told["mlflow"].keys()
    assert {stack.DATABASE["prefect"], "PREFECT_SERVER_API_AUTH_STRING"} <= told["prefect"].keys()
    assert set(stack.OF_SERVERS).isdisjoint(told["worker"])
    assert told["worker"][stack.ADDRESS["mlflow"]] == "http://mlflow:5000"
    assert told["worker"][stack.ADDRESS["prefect"]] == "http://prefect:4200/api"
    heartbeat_s = told["worker"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"]
    assert heartbeat_s == str(RetrainingParams.model_fields["heartbeat_s"].default)
    assert f"create -name {stack.BUCKET}'" in SERVICES["bucket"]["entrypoint"][-1]
    assert told["mlflow"]["MLFLOW_ARTIFACTS_DESTINATION"].startswith(f"s3://{stack.BUCKET}/")


def test_the_worker_gets_all_that_up_tells_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("PREFECT_API_URL", "PREFECT_WORKER_WEBSERVER_HOST"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(FILE.parents[1])
    before = set(stack.settings("mlflow", 1))
    assert set(stack.settings("worker", 8080, "http://prefect:4200/api")) - before <= set(
        SERVICES["worker"]["environment"]
    )


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_watched_and_closed(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"[a-z/-]+:\d+\.\d+(\.\d+)?(-[a-z]+)?", service["image"]), "a version, not a moving tag"
    assert service["restart"] == ("on-failure" if name in ONCE else "unless-stopped")
    assert ("healthcheck" in service) == (name not in ONCE)
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service and "network_mode" not in service
    assert all(port.startswith("${VISIONLINE_BIND:-127.0.0.1}:") for port in service.get("ports", ()))
    for needed, how in service.get("depends_on", {}).items():
        expected = "service_completed_successfully" if needed in ONCE else "service_healthy"
        assert how["condition"] == expected or (name, needed) == ("prefect", "mlflow")  # one image, built once
    for config in service.get("configs", ()):
        assert COMPOSE["configs"][config["source"]]["content"]
    for volume in service.get("volumes", ()):
        assert volume.split(":")[0] in COMPOSE["volumes"] or volume == "${VISIONLINE_PROJECT:?}:/project"


def test_every_secret_is_asked_for_and_none_is_written_down() -> None:
    text = FILE.read_text()
    used = set(re.findall(r"\$\{(\w+)", text))
    assert used == EXAMPLE.keys(), "env.example lists what the file asks for, and nothing else"
    required = set(re.findall(r"\$\{(\w+):\?\}", text))
    assert {name for name, value in EXAMPLE.items() if not value} == required
    for line in text.splitlines():
        if re.search(r"(?i)(password|secret|auth_string|accesskey)\w*\"?\s*[:=]", line):
            assert "${" in line, f"not from the environment: {line.strip()}"


def test_the_file_for_gpus_changes_a_service_that_there_is() -> None:
    assert YAML(typ="safe").load(INFRA / "compose.gpu.yaml")["services"].keys() <= SERVICES.keys()


def test_docker_reads_it(tmp_path: Path) -> None:
    if not shutil.which("docker") or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        pytest.skip("needs the plug-in docker compose; no daemon")
    environment = tmp_path / "env"
    environment.write_text("".join(f"{name}={value or 'x'}\n" for name, value in EXAMPLE.items()))
    command = ["docker", "compose", "--env-file", environment, "-f", FILE, "-f", INFRA / "compose.gpu.yaml", "config"]
    done = subprocess.run([*command, "--quiet"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
