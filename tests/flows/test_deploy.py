"""Deploying talks to the server that runs, whatever Prefect found in the environment when it was imported."""

import http.server
import threading
from pathlib import Path

import pytest
from prefect.exceptions import PrefectHTTPStatusError

from flows import deploy, services


class _Refuses(http.server.BaseHTTPRequestHandler):
    """Notes what is asked and grants nothing."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_error(403)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_the_running_server_is_asked_and_none_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    Path("params.yaml").write_text("datasets: {}\nbackbones: {}\ntasks: {}\n")
    _Refuses.asked = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(services, "prefect_api", lambda: f"http://127.0.0.1:{server.server_port}/api")
        with pytest.raises(PrefectHTTPStatusError, match="403"):
            deploy.deploy(None)
        server.shutdown()
    assert _Refuses.asked[-1] == "/api/work_pools/visionline"
