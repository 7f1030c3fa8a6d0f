"""A served model stays fresh: an alias moves, a process dies, and no request is lost."""

import signal
import sys
import threading
import time
import urllib.request
from typing import Any

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.long]

MOVE = """
import sys
from stages.tracking import store
store.client().set_registered_model_alias("patterns", sys.argv[1], sys.argv[2])
"""


@pytest.fixture
def two_versions(clone: Any) -> Any:
    """A clone with versions 1 and 2 of patterns, alike but for their reports."""
    with (clone.root / "reports/evaluate/patterns.json").open("a") as file:
        file.write("\n")
    done = clone.stage("register", "patterns")
    assert done.returncode == 0, done.stderr
    assert clone.aliases("patterns") == {"challenger": 2, "champion": 1}
    return clone


def ask(address: str, image: bytes) -> tuple[int, str]:
    """Status and version of an answer."""
    request = urllib.request.Request(f"{address}/predict", image, {"Content-Type": "image/png"})
    with urllib.request.urlopen(request, timeout=60) as response:
        response.read()
        return response.status, response.headers["X-Model-Version"]


def test_a_moved_alias_switches_without_a_lost_request_and_a_dead_model_comes_back(two_versions: Any) -> None:
    clone = two_versions
    picture = next((clone.root / ".visionline/shapes/imagefolder/test").glob("*/*")).read_bytes()
    server = clone.start("serve", "patterns", "--port", "0", "--refresh", "0.5", "--shadow", "challenger")
    try:
        line = server.stdout.readline()
        assert line.startswith("serving patterns version 1 (shadow 2) on http://"), line
        address, answers, over = line.split()[-1], [], threading.Event()

        def hammer() -> None:
            while not over.is_set():
                answers.append(ask(address, picture))

        threads = [threading.Thread(target=hammer) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert clone.run(sys.executable, "-c", MOVE, "champion", "2").returncode == 0
        deadline = time.monotonic() + 90
        while ("200", "2") not in [(str(status), version) for status, version in answers[-1:]]:
            assert time.monotonic() < deadline, answers[-1:]
            time.sleep(0.1)
        over.set()
        for thread in threads:
            thread.join()
        assert {status for status, _ in answers} == {200}
        versions = [version for _, version in answers]
        assert versions[0] == "1" and "1" not in versions[versions.index("2") + len(threads) :]

        # The former champion ends, and the shadow, which would be the present one's double.
        while len(models := psutil.Process(server.pid).children()) > 1:
            assert time.monotonic() < deadline, models
            time.sleep(0.1)
        (model,) = models
        model.send_signal(signal.SIGKILL)
        assert ask(address, picture) == (200, "2")
        with urllib.request.urlopen(f"{address}/metrics", timeout=10) as response:
            assert "visionline_switches 1.0" in response.read().decode()
    finally:
        server.terminate()
        server.wait(timeout=30)
    rows = clone.ok("status")
    assert "served" in rows and "shadow" in rows


def test_wrong_use_is_told_before_a_model_is_loaded(clone: Any) -> None:
    for options, word in (
        (["--canary", "150%"], "--canary 150%"),
        (["--shadow", "nobody"], "patterns@nobody"),
    ):
        done = clone.visionline("serve", "patterns", "--port", "0", *options)
        assert (done.returncode, done.stderr.count("\n"), word in done.stderr) == (2, 1, True), done.stderr
