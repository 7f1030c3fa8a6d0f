"""Which services are ours to start, where, and what each is told."""

import pytest

from flows import stack
from flows.project import UsageError

ELSEWHERE = {"MLFLOW_TRACKING_URI": "http://mlflow.example.org:5000", "PREFECT_API_URL": "http://127.0.0.1:4200/api"}


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (*stack.ADDRESS.values(), *stack.OF_SERVERS):
        monkeypatch.delenv(variable, raising=False)


def test_an_address_alone_is_served_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [stack.served_elsewhere(name) for name in ("mlflow", "prefect", "worker")] == [None, None, None]
    for variable, address in ELSEWHERE.items():
        monkeypatch.setenv(variable, address)
    assert stack.served_elsewhere("mlflow") == "http://mlflow.example.org:5000"
    assert stack.served_elsewhere("prefect") == "http://127.0.0.1:4200"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////somewhere/mlflow.db")
    assert stack.served_elsewhere("mlflow") is None


def test_with_a_database_it_is_served_here_at_its_port(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stack.port_of_address("prefect") == 0
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", "postgresql+asyncpg://db/prefect")
    assert stack.port_of_address("prefect") == 0, "Prefect's address is found without the environment"
    monkeypatch.setenv("PREFECT_API_URL", "http://localhost:4242/api")
    assert (stack.served_elsewhere("prefect"), stack.port_of_address("prefect")) == (None, 4242)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("", "must say where it is served"),
        ("sqlite:///x", "must say where"),
        ("http://mlflow.example.org:5000", "loopback"),
    ],
)
def test_an_address_where_nothing_of_ours_can_be(monkeypatch: pytest.MonkeyPatch, address: str, told: str) -> None:
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "postgresql://db/mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(UsageError, match=f"MLFLOW_BACKEND_STORE_URI is set.*{told}"):
        stack.port_of_address("mlflow")


def test_the_worker_is_told_no_password_of_the_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in stack.OF_SERVERS:
        monkeypatch.setenv(variable, "postgresql://db.example.org/hush")
    told = stack.settings("worker", 1, "http://127.0.0.1:4200/api")
    assert set(stack.OF_SERVERS).isdisjoint(told) and told["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"
    assert set(stack.OF_SERVERS) <= stack.settings("prefect", 1).keys()
    assert "hush" not in " ".join(stack.command("mlflow", 1) + stack.command("prefect", 1))
    with pytest.raises(UsageError, match="a worker needs a Prefect server"):
        stack.settings("worker", 1)


@pytest.mark.parametrize("name", [*stack.ALL, stack.S3])
def test_all_of_them_listen_on_loopback_alone(name: str) -> None:
    listening = [*stack.command(name, 1234), *stack.settings(name, 1234, "http://127.0.0.1:1/api").values()]
    assert stack.HOST == "127.0.0.1" and stack.HOST in listening
    assert "0.0.0.0" not in listening
