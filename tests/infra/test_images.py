"""The image files: no complaint of the linter, and nothing installed that is not locked."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMAGES = sorted((ROOT / "infra").glob("*.Dockerfile"))


def pins(lock: str) -> dict[str, set[str]]:
    """name==version -> hashes of a lock file."""
    found: dict[str, set[str]] = {}
    name = ""
    for line in (ROOT / lock).read_text().splitlines():
        if pinned := re.match(r"[a-z0-9.-]+==[^ ;]+", line):
            name = pinned[0]
        if digest := re.search(r"--hash=(sha256:[0-9a-f]{64})", line):
            found.setdefault(name, set()).add(digest[1])
    return found


@pytest.mark.parametrize("image", IMAGES, ids=lambda path: path.stem)
def test_the_linter_has_nothing_to_say(image: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "--no-color", image], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("image", IMAGES, ids=lambda path: path.stem)
def test_all_of_it_is_locked_and_nobody_is_root(image: Path) -> None:
    text = image.read_text()
    assert re.search(r"^FROM python:3\.11\.\d+-slim-bookworm$", text, re.MULTILINE)
    assert all("--require-hashes" in line for line in text.splitlines() if "pip install" in line)
    assert re.findall(r"^USER .*", text, re.MULTILINE)[-1] == "USER 1000:1000"
    copied = [line.split()[1] for line in text.splitlines() if line.startswith("COPY")]
    sent = (ROOT / ".dockerignore").read_text().splitlines()
    assert copied and all((ROOT / name).is_file() and f"!{name}" in sent for name in copied)


def test_servers_run_in_the_versions_that_are_tested() -> None:
    servers, tested = pins("infra/servers.lock"), pins("requirements.lock")
    assert servers and all(tested.get(name) == hashes for name, hashes in servers.items())
    assert {"mlflow", "prefect", "psycopg", "flask-wtf", "boto3"} <= {name.partition("==")[0] for name in servers}
