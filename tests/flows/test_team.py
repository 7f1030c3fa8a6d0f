"""Storage for teams: MLflow and Prefect on PostgreSQL, with users and passwords, and everything else on S3."""

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import psutil
import pytest
from ruamel.yaml import YAML

from flows import server

pytestmark = [pytest.mark.slow, pytest.mark.long]

SECRETS = {"database": "pg-hush-1", "mlflow": "ml-hush-2-long-enough", "prefect": "pr-hush-3", "store": "s3-hush-4"}
# The same users and databases as in the compose file, whose values are filled in here.
CONFIGS = YAML(typ="safe").load(Path(__file__).parents[2] / "infra/compose.yaml")["configs"]
USERS, DATABASES = CONFIGS["mlflow-users"]["content"], CONFIGS["databases"]["content"]


def postgres_programs() -> Path | None:
    """The folder of PostgreSQL's own programs, as Debian or a PATH has them."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [shutil.which("initdb")]
    return Path(found[-1]).parent if found[-1] else None


def postgres_user() -> dict[str, Any]:
    """Who runs PostgreSQL, which refuses to be root, as subprocess takes it."""
    if os.geteuid() != 0:
        return {}
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("needs the user postgres, since PostgreSQL does not run as root")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """Host and port of a PostgreSQL server of our own on loopback, with the databases that a team needs."""
    programs, user = postgres_programs(), postgres_user()
    if programs is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    # Not below pytest's own folder, into which no other user may look.
    with tempfile.TemporaryDirectory(prefix="visionline-postgres-", ignore_cleanup_errors=True) as folder:
        os.chown(folder, user.get("user", -1), user.get("group", -1))

        def call(program: str, *arguments: str, **settings: str) -> None:
            environment = {**os.environ, **settings}
            command = [programs / program, *arguments]
            subprocess.run(command, check=True, cwd=folder, env=environment, stdout=subprocess.DEVNULL, **user)

        password = Path(folder) / "password"
        password.write_text(SECRETS["database"])
        password.chmod(0o644)
        data, port = f"{folder}/data", str(server.free_port())
        call("initdb", "-D", data, "-U", "visionline", "--pwfile", str(password), "-A", "scram-sha-256")
        options = f"-p {port} -k '' -c listen_addresses=127.0.0.1 -c fsync=off"
        call("pg_ctl", "-D", data, "-l", f"{folder}/log", "-w", "-o", options, "start")
        try:
            address = ("-h", "127.0.0.1", "-p", port, "-U", "visionline", "postgres")
            for command in DATABASES.splitlines():
                call("psql", *address, "--quiet", "--command", command, PGPASSWORD=SECRETS["database"])
            yield f"127.0.0.1:{port}"
        finally:
            call("pg_ctl", "-D", data, "-m", "immediate", "stop")


@dataclass(frozen=True)
class Team:
    """A clone whose servers keep everything in PostgreSQL and S3."""

    clone: Any
    addresses: dict[str, str]

    def sql(self, query: str, database: str = "mlflow") -> list[tuple[Any, ...]]:
        """Rows of MLflow's or Prefect's database."""
        import psycopg

        address = self.clone.settings["MLFLOW_BACKEND_STORE_URI"].removesuffix("mlflow") + database
        with psycopg.connect(address) as connection:
            return connection.execute(query).fetchall()

    def objects(self) -> list[str]:
        """Keys in the bucket."""
        import boto3

        client = boto3.client("s3", endpoint_url=self.addresses["s3"], **{
            "aws_access_key_id": "ada", "aws_secret_access_key": SECRETS["store"], "region_name": "us-east-1"
        })  # fmt: skip
        pages = client.get_paginator("list_objects_v2").paginate(Bucket="visionline")
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]


@pytest.fixture(scope="module")
def team(with_data: Any, postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """A task, trained and registered by servers that know who asks."""
    folder = tmp_path_factory.mktemp("team")
    clone = with_data.copy(folder / "project")
    users = folder / "users.ini"
    values = {"POSTGRES_PASSWORD": SECRETS["database"], "MLFLOW_ADMIN_USERNAME": "ada"}
    text = Template(USERS).substitute(values, MLFLOW_ADMIN_PASSWORD=SECRETS["mlflow"])
    users.write_text(text.replace("@postgres:5432", f"@{postgres}"))
    database = f"visionline:{SECRETS['database']}@{postgres}"
    ports = [server.free_port() for _ in range(3)]
    store = f"http://127.0.0.1:{ports[2]}"
    clone.settings |= {
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{ports[0]}",
        "MLFLOW_BACKEND_STORE_URI": f"postgresql://{database}/mlflow",
        "MLFLOW_ARTIFACTS_DESTINATION": "s3://visionline/mlflow",
        "MLFLOW_S3_ENDPOINT_URL": store,
        "MLFLOW_AUTH_CONFIG_PATH": str(users),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "any",
        "MLFLOW_TRACKING_USERNAME": "ada",
        "MLFLOW_TRACKING_PASSWORD": SECRETS["mlflow"],
        "PREFECT_API_URL": f"http://127.0.0.1:{ports[1]}/api",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{database}/prefect",
        "PREFECT_SERVER_API_AUTH_STRING": f"ada:{SECRETS['prefect']}",
        "PREFECT_API_AUTH_STRING": f"ada:{SECRETS['prefect']}",
        "AWS_ACCESS_KEY_ID": "ada",
        "AWS_SECRET_ACCESS_KEY": SECRETS["store"],
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    clone.dvc("remote", "add", "--default", "store", "s3://visionline/dvc")
    clone.dvc("remote", "modify", "store", "endpointurl", store)
    script = "from stages.params import edit; edit.set_values({'tasks.patterns.control': 'false'})"
    assert clone.run(sys.executable, "-c", script).returncode == 0
    clone.git("commit", "--quiet", "--all", "--message", "a remote for data")
    try:
        addresses = json.loads(clone.ok("up", "--s3", "--s3-port", str(ports[2]), "--json"))
        clone.ok("run", "--only", "patterns")
        yield Team(clone, addresses)
    finally:
        clone.ok("down")


def ask(address: str, user: str = "", body: Any = None) -> Any:
    """What a server answers nobody, or user:password; its status where it refuses."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    if user:
        request.add_header("Authorization", f"Basic {b64encode(user.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        return error.code


def test_nobody_is_answered_without_a_password(team: Team) -> None:
    for service, path in {"mlflow": "/api/2.0/mlflow/runs/search", "prefect": "/api/flow_runs/filter"}.items():
        address = team.addresses[service] + path
        assert ask(address, body={}) == 401
        assert ask(address, "ada:wrong", {}) == 401
        assert isinstance(ask(address, f"ada:{SECRETS[service]}", {}), dict | list)
    for changed in ({"MLFLOW_TRACKING_PASSWORD": "wrong"}, {"PREFECT_API_AUTH_STRING": "ada:wrong"}):
        done = team.clone.visionline("run", "--set", "tasks.patterns.training.steps=25", **changed)
        assert done.returncode == 1 and "401" in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
        team.clone.git("reset", "--quiet", "--hard", "HEAD")


def test_everything_lies_in_the_database_and_the_bucket(team: Team) -> None:
    names = {name for (name,) in team.sql("SELECT name FROM runs WHERE status = 'FINISHED'")}
    assert {"pretrain@shapes-resnet18", "finetune@patterns", "evaluate@patterns"} <= names
    assert team.sql("SELECT name, version FROM model_versions") == [("patterns", 1)]
    assert [key for key in team.objects() if key.startswith("mlflow/") and key.endswith(".safetensors")]
    local = team.clone.root / ".visionline"
    assert not (local / "mlflow.db").exists() and not (local / "mlartifacts").exists()
    assert not (local / "prefect" / "prefect.db").exists()


def test_the_worker_runs_what_is_deployed(team: Team) -> None:
    team.clone.ok("deploy")
    api, user = f"{team.addresses['prefect']}/api", f"ada:{SECRETS['prefect']}"
    deployment = ask(f"{api}/deployments/name/retrain/visionline", user)
    body = {"state": {"type": "SCHEDULED"}, "parameters": {"task": "patterns"}}
    run = ask(f"{api}/deployments/{deployment['id']}/create_flow_run", user, body)
    deadline = time.monotonic() + 300
    while run["state_type"] not in ("COMPLETED", "FAILED", "CRASHED") and time.monotonic() < deadline:
        time.sleep(1)
        run = ask(f"{api}/flow_runs/{run['id']}", user)
    assert run["state_type"] == "COMPLETED" and "nothing was due" in run["state"]["message"], run["state"]
    assert team.sql("SELECT count(*) FROM model_versions WHERE name = 'patterns'") == [(1,)]


def test_a_clone_that_only_knows_the_servers_predicts_traces_and_reproduces(team: Team, tmp_path: Path) -> None:
    team.clone.dvc("push", "--quiet")
    assert [key for key in team.objects() if key.startswith("dvc/files/md5/")]
    other = type(team.clone)(tmp_path / "other", {**team.clone.settings})
    for name in ("MLFLOW_BACKEND_STORE_URI", "PREFECT_SERVER_DATABASE_CONNECTION_URL", "MLFLOW_AUTH_CONFIG_PATH"):
        del other.settings[name]
    subprocess.run(["git", "clone", "--quiet", team.clone.root, other.root], check=True)
    image = min((team.clone.root / ".visionline/shapes/imagefolder/test").rglob("*.*"))
    assert json.loads(other.ok("predict", "patterns@champion", str(image), "--json"))
    told = json.loads(other.ok("trace", "model:patterns@champion", "--json"))
    assert {"finetune@patterns", "pretrain@shapes-resnet18"} <= {node["title"] for node in told["nodes"]}
    images = json.loads(other.ok("trace", f"image:{image}", "--json"))  # read from the bucket
    assert [(row["dataset"], row["split"]) for row in images["sightings"]] == [("shapes-patterns", "test")]
    certificate = json.loads(other.ok("reproduce", "patterns@champion", "--json"))
    assert certificate["verdict"] == "equal", certificate


def test_no_secret_is_written_where_others_read(team: Team) -> None:
    clone = team.clone
    held = [file for file in clone.root.rglob("*") if file.is_file() and not file.is_symlink()]
    for secret in SECRETS.values():
        assert [file for file in held if secret.encode() in file.read_bytes()] == []
        for table in ("params", "tags", "experiment_tags", "model_version_tags"):
            assert team.sql(f"SELECT count(*) FROM {table} WHERE value LIKE '%{secret}%'") == [(0,)]
        for column in ("parameters", "job_variables", "context", "empirical_policy"):
            query = f"SELECT count(*) FROM flow_run WHERE CAST({column} AS text) LIKE '%{secret}%'"
            assert team.sql(query, "prefect") == [(0,)]
        for process in clone.processes():
            with suppress(psutil.NoSuchProcess):
                assert secret not in " ".join(process.cmdline())
